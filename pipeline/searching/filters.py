"""Conditions in SQL that strangers type, each evaluated in a process that can be killed (filter_process.py)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType

import numpy as np

from ..errors import ClipmillError, UserError
from . import filter_process
from .filter_process import OPTION, Tables, too_large
from .numbered_rows import Mask

PATIENCE = 20.0  # seconds that a filter may take
MEMORY = 1 << 30  # bytes that a filter may take for its data
_AT_ONCE = 2  # filters that run at the same time
_WAITING = 6  # filters that may wait for their turn
_KEPT = 16  # masks of the last filters

_Process = subprocess.Popen[bytes]
_Scratch = tempfile.TemporaryDirectory[str]


class BusyError(ClipmillError):
    """Too many filters wait already. Nothing is wrong with this one."""


class Filters:
    """Of the tables in a database that `catalogue` wrote. Thread-safe."""

    command = (sys.executable, "-m", filter_process.__name__)

    def __init__(self, database: Path, rows: int) -> None:
        self._database, self._rows = database, rows
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="filter")
        self._masks: OrderedDict[str, Future[Mask]] = OrderedDict()  # by condition; unfinished ones, too
        self._ready: SimpleQueue[_Process] = SimpleQueue()  # one for each that may run: starting takes time
        self._processes: dict[_Process, _Scratch] = {}
        self._is_closed = False
        self._lock = threading.Lock()
        for _ in range(_AT_ONCE):
            self._start()

    def __enter__(self) -> Filters:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        with self._lock:
            self._is_closed = True
            for process in self._processes:
                process.kill()
        self._threads.shutdown(cancel_futures=True)
        for process, scratch in self._processes.items():
            _end(process, scratch)

    def mask(self, where: str) -> Mask:
        """The rows that meet the condition. Waits for it; errors as `submit`."""
        return self.submit(where).result()

    def submit(self, where: str) -> Future[Mask]:
        """As `mask`, without waiting. A condition is evaluated once for all who ask at the same time.

        The future's error is UserError for what is no condition, or takes longer than `PATIENCE` or more than `MEMORY`.
        BusyError at once where too many others wait.
        """
        with self._lock:
            if where in self._masks:
                self._masks.move_to_end(where)
                return self._masks[where]
            if sum(not future.done() for future in self._masks.values()) >= _AT_ONCE + _WAITING:
                raise BusyError("the server is busy with other filters: try again in a few seconds")
            future = self._masks[where] = self._threads.submit(self._evaluate, where)
            while len(self._masks) > _KEPT:
                self._masks.popitem(last=False)
        future.add_done_callback(lambda done: self._forget_failure(where, done))
        return future

    def _forget_failure(self, where: str, future: Future[Mask]) -> None:
        """A filter that was too slow may be quick enough the next time."""
        if future.cancelled() or future.exception() is not None:
            with self._lock:
                if self._masks.get(where) is future:
                    del self._masks[where]

    def _evaluate(self, where: str) -> Mask:
        answer = self._answer(json.dumps(where).encode() + b"\n")
        if answer is None:
            raise UserError(f"{OPTION}: takes longer than {PATIENCE:g} s: make it simpler")
        header, _, bits = answer.partition(b"\n")
        if not header:
            raise UserError(too_large(MEMORY))
        if error := json.loads(header)["error"]:
            raise UserError(error)
        return np.unpackbits(np.frombuffer(bits, np.uint8), count=self._rows).view(np.bool_)

    def _answer(self, question: bytes) -> bytes | None:
        """What a process wrote until it ended, by itself or killed for its memory; None: it took too long."""
        process = self._ready.get()
        late = threading.Event()

        def stop() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(PATIENCE, stop)
        try:
            timer.start()
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(question)  # and not closed: the process would end
            process.stdin.flush()
            answer = process.stdout.read()
        except BrokenPipeError:  # somebody ended the process before
            answer = b""
        finally:
            timer.cancel()
            with self._lock:
                scratch = self._processes.pop(process, None)
            _end(process, scratch)
            self._start()
        return None if late.is_set() else answer

    def _start(self) -> None:
        """A process that opens the tables, and waits for a condition. It has none of our environment."""
        pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
        environment = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        with self._lock:
            if self._is_closed:
                return
            scratch = tempfile.TemporaryDirectory(prefix="clipmill-filter-")
            tables = Tables(str(self._database), self._rows, MEMORY, scratch.name)
            process = subprocess.Popen(
                (*self.command, tables.as_text()),
                stdin=pipe,
                stdout=pipe,
                stderr=nothing,
                cwd=self._database.parent,
                env=environment,
            )
            self._processes[process] = scratch
        self._ready.put(process)


def _end(process: _Process, scratch: _Scratch | None) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(BrokenPipeError):
                pipe.close()
    if scratch is not None:
        scratch.cleanup()
