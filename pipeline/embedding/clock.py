"""Where the time goes: how long each stage was at work, waited for the one before it, and for room behind it."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

from ..records import Reading, Times
from ..storage.ahead import Waits

T = TypeVar("T")
Seconds = defaultdict[str, float]  # by stage


class WorkerClock:
    """A worker's time in each stage, divided among the shards that are in it at the moment: what they have been given
    adds up to the time in which the stage was at work at all."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._inside: dict[str, list[Seconds]] = {}  # stage -> what each shard that is in it adds up
        self._since: dict[str, float] = {}
        self._cores = time.process_time()  # core-seconds that have been given out

    def enter(self, stage: str, busy: Seconds) -> None:
        with self.lock:
            self._divide(stage)
            self._inside.setdefault(stage, []).append(busy)

    def leave(self, stage: str, busy: Seconds) -> None:
        with self.lock:
            self._divide(stage)
            self._inside[stage] = [other for other in self._inside[stage] if other is not busy]

    def charge(self, stage: str, seconds: float) -> None:
        """Time in a stage that was measured elsewhere, as a GPU measures its own: the part of the shards that are being
        encoded, or else of all in work."""
        with self.lock:
            inside = self._inside.get("encode") or self._inside.get("worker") or []
            for busy in inside:
                busy[stage] += seconds / len(inside)

    def settle(self) -> None:
        """Give out what those who are still inside have earned."""
        with self.lock:
            for stage in self._inside:
                self._divide(stage)

    def _divide(self, stage: str) -> None:
        now = time.perf_counter()
        inside = self._inside.get(stage, [])
        for busy in inside:
            busy[stage] += (now - self._since[stage]) / len(inside)
        self._since[stage] = now
        if stage == "worker":
            spent = time.process_time()
            for busy in inside:
                busy["cores"] += (spent - self._cores) / len(inside)
            self._cores = spent


class Clock:
    """One shard's times, from now on. What a stage between two others does not spend at work it waits."""

    def __init__(self, worker: WorkerClock | None = None) -> None:
        self._worker = worker or WorkerClock()
        self._busy: Seconds = defaultdict(float)
        self._active: Seconds = defaultdict(float)  # as busy, not divided
        self._starved: Seconds = defaultdict(float)
        self._blocked: Seconds = defaultdict(float)
        self._began = time.perf_counter()
        self._cores, self._elsewhere = time.process_time(), 0.0
        self.reading: Reading | None = None  # where another process read the shard

    @contextmanager
    def stage(self, name: str) -> Generator[None, None, None]:
        """A shard is in a stage once at a time."""
        self._worker.enter(name, self._busy)
        try:
            with self._adding(self._active, name):
                yield
        finally:
            self._worker.leave(name, self._busy)

    def timed(self, name: str, items: Iterable[T]) -> Generator[T, None, None]:
        """The same items; what making each of them takes is the stage's."""
        iterator = iter(items)
        while True:
            with self.stage(name):
                item = next(iterator, None)
            if item is None:
                return
            yield item

    def between(self, producer: str, consumer: str) -> Waits:
        """What `ahead` tells, where it stands between two stages."""
        return Waits(partial(self._adding, self._starved, consumer), partial(self._adding, self._blocked, producer))

    def times(self) -> Times:
        """Up to now. `total` is this shard's own, from its beginning; `cores` are core-seconds of the process: the
        shard's part of a worker's, or all of one that decodes a shard at a time."""
        self._worker.settle()
        total = time.perf_counter() - self._began
        with self._worker.lock:
            busy = {"cores": time.process_time() - self._cores, **self._busy, "total": total}
            busy["cores"] += self._elsewhere
        starved, blocked = dict(self._starved), dict(self._blocked)
        for stage in starved.keys() | blocked.keys():  # once through with its shard, it waits for those behind it
            known = self._active[stage] + starved.get(stage, 0.0) + blocked.get(stage, 0.0)
            blocked[stage] = blocked.get(stage, 0.0) + max(0.0, total - known)
        return Times(busy, starved, blocked)

    def add(self, elsewhere: Times, processes: int) -> None:
        """What one process measured, of several that do some stages' work for this worker: its part of theirs."""
        with self._worker.lock:
            self._elsewhere += elsewhere.busy.get("cores", 0.0)
        for stage in elsewhere.busy.keys() - {"total", "cores"}:
            starved, blocked = elsewhere.starved.get(stage, 0.0), elsewhere.blocked.get(stage, 0.0)
            self._starved[stage] += starved
            self._blocked[stage] += blocked
            self._active[stage] += elsewhere.busy["total"] - starved - blocked
            with self._worker.lock:
                self._busy[stage] += elsewhere.busy[stage] / processes

    @contextmanager
    def _adding(self, to: Seconds, stage: str) -> Generator[None, None, None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            to[stage] += time.perf_counter() - start
