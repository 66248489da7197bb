"""Commands as people run them, each in a process of its own: how long from start to end, and how much memory.

Everybody's start-up is his own affair: a steady rate is what more pairs cost once started, from a short run and a long
one; a rate with start-up is the long run's pairs over all its seconds.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

_SAMPLE = 0.5  # seconds between two looks at memory
_PATIENCE = 600.0  # seconds


@dataclass(frozen=True)
class Ran:
    seconds: float
    out: str  # stdout
    core_seconds: float  # of the process and all below it
    driver_mib: float  # peak resident size of the process itself
    worker_mib: float  # and of the largest of its Ray actors


@dataclass(frozen=True)
class Command:
    """What to run, and on which cores; all that this machine has when none are named."""

    words: Sequence[str]
    cores: Sequence[int] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


def run(command: Command) -> Ran:
    """Ends this benchmark, with what the command said, if it fails."""
    environment = os.environ | {"RAY_USAGE_STATS_ENABLED": "0", "HF_HUB_OFFLINE": "1"} | command.environment
    with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryFile("w+") as complained:
        started = time.perf_counter()
        process = subprocess.Popen(
            list(command.words),
            stdout=said,
            stderr=complained,
            env=environment,
            preexec_fn=(lambda: os.sched_setaffinity(0, command.cores)) if command.cores else None,
            start_new_session=True,
        )
        with _Watch(process.pid) as watch:
            try:
                code = process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                code = -1
            finally:
                _end(process)
        seconds = time.perf_counter() - started
        said.seek(0)
        complained.seek(0)
        if code:
            sys.exit(f"{' '.join(command.words)}: exit code {code}\n{said.read()[-2000:]}\n{complained.read()[-4000:]}")
        return Ran(seconds, said.read(), sum(watch.core_seconds.values()), watch.driver / 2**20, watch.worker / 2**20)


def _end(process: subprocess.Popen[bytes]) -> None:
    """The process and all that it started, of which a killed one leaves some behind."""
    left = []
    if process.poll() is None:
        left = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.wait()
    for each in left:
        if each.is_running():
            each.kill()


class _Watch:
    """Looks at the memory and the processor time of a process and of all below it, from a thread."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self.core_seconds: dict[int, float] = {}  # by process, up to the last look
        self.driver = self.worker = 0

    def __enter__(self) -> _Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stopped.wait(_SAMPLE):
            with suppress(psutil.NoSuchProcess):
                for each in [self._process, *self._process.children(recursive=True)]:
                    self._look_at(each)

    def _look_at(self, each: psutil.Process) -> None:
        with suppress(psutil.NoSuchProcess):
            times = each.cpu_times()
            self.core_seconds[each.pid] = times.user + times.system
            if each.pid == self._process.pid:
                self.driver = max(self.driver, each.memory_info().rss)
            elif (words := each.cmdline()) and words[0].startswith("ray::") and "IDLE" not in words[0]:
                self.worker = max(self.worker, each.memory_info().rss)


@dataclass(frozen=True)
class Pace:
    """One contender in one round."""

    steady: float  # pairs a second
    with_start_up: float
    pairs_a_core_second: float  # once started
    many: Ran


Start = Callable[[Sequence[Path], Path], Command]  # what embeds these shards into a new folder


def pace(start: Start, shards: Sequence[Path], pairs: int, few: int) -> Pace:
    """Runs the first `few` of the shards, then all of them; `pairs` a shard. With `few` 0, start-up counts as steady.

    Where `few` is less than the workers of the long run, the start-up of some of them counts as steady, too. Outputs go
    to folders that are removed.
    """
    chosen = [shards[:few], shards] if few else [shards]
    ran = []
    for each in chosen:
        with tempfile.TemporaryDirectory() as folder:
            ran.append(run(start(each, Path(folder) / "out")))
    more = pairs * (len(shards) - few)
    seconds, core_seconds = ran[-1].seconds, ran[-1].core_seconds
    if few:
        seconds, core_seconds = seconds - ran[0].seconds, core_seconds - ran[0].core_seconds
    return Pace(_rate(more, seconds), _rate(pairs * len(shards), ran[-1].seconds), _rate(more, core_seconds), ran[-1])


def _rate(pairs: int, seconds: float) -> float:
    return pairs / seconds if seconds > 0 else math.nan  # a busy machine can take longer over less


def clipmill(model: str, *options: str, **settings: Any) -> Start:
    """The main job of these shards, from its command line; its stdout is the run's summary as JSON."""

    def command(shards: Sequence[Path], out: Path) -> Command:
        words = [sys.executable, "-m", "clipmill.jobs.cli", "embed", *map(str, shards), "--out", str(out)]
        return Command([*words, "--model", model, "--address", "local", "--json", *options], **settings)

    return command
