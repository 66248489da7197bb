"""Which machines are far slower than the others: told, not judged, as what they do is right. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable

TIMES = 10.0  # as long as recent shards took
SHARDS = 2  # one after the other: a single one may be large
SECONDS = 1.0  # a shard that takes less is not slow: of milliseconds, chance decides


class Paces:
    def __init__(self) -> None:
        self._slow: Counter[Hashable] = Counter()  # shards in a row, by worker
        self._told: set[str] = set()  # machines

    def done(self, worker: Hashable, machine: str, seconds: float, usual: float | None) -> float | None:
        """A worker of that machine has done a shard. How many times as long as others it took, once for a machine of
        which a worker is slow."""
        if not usual or seconds < max(TIMES * usual, SECONDS):
            self._slow.pop(worker, None)
            return None
        self._slow[worker] += 1
        if self._slow[worker] < SHARDS or machine in self._told:
            return None
        self._told.add(machine)
        return seconds / usual
