"""Which worker each reading process reads for, and how many of them a run needs. Pure.

A process reads for one worker at a time. One that waits for room behind it tells that its worker has enough of them;
one that never does, that its worker could use more. So a fast GPU has more of them than a slow one, and all of them are
where they help.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from math import ceil
from typing import TypeVar

MOST_LENT = 64  # processes that read for one worker: some 200 cores
_IDLE = 0.2  # share of its time that a process should wait for room: then its worker never waits
_NEVER = 0.02  # the same, when it does not wait at all
_STEADY = 0.1  # a need that is so close to what there is changes nothing

Worker = TypeVar("Worker", bound=Hashable)
Reader = TypeVar("Reader", bound=Hashable)


@dataclass
class Appetite:
    """How many processes a worker needs, by what those that read for it have told since their number last changed."""

    lent: int = 0
    _waited: list[float] = field(default_factory=list)

    def now_has(self, lent: int) -> None:
        if lent != self.lent:
            self.lent = lent
            self._waited.clear()

    def hear(self, waited: float) -> None:
        """A process has read a shard; the share of its time in which it waited for room behind it."""
        self._waited.append(min(max(waited, 0.0), 1.0))

    def wanted(self) -> int:
        """As many as now until each of them may have read a shard; then never more than twice as many, or less than
        half."""
        if not self.lent or len(self._waited) < self.lent:
            return self.lent
        waited = sum(self._waited) / len(self._waited)
        if waited < _NEVER:  # nobody knows yet how many are enough
            return min(2 * self.lent, MOST_LENT)
        need = self.lent * (1.0 - waited) / (1.0 - _IDLE)
        if abs(need - self.lent) <= _STEADY * self.lent:
            return self.lent
        return min(max(ceil(need - 1e-9), -(-self.lent // 2)), 2 * self.lent, MOST_LENT)


def lend(
    wanted: Mapping[Worker, int],
    places: Mapping[Worker, str],
    readers: Mapping[Reader, str],
    lent: Mapping[Reader, Worker],
) -> dict[Reader, Worker]:
    """Who reads for whom from now on. As few change as can be, and those beside a worker read for it first.

    wanted: of each worker. places, readers: the machine that each is on. lent: as it is now. Where there are too few,
    all get their part, and each of them one if there are as many; those that nobody wants are left out.
    """
    parts = _parts(wanted, len(readers))
    given: dict[Reader, Worker] = {}
    lacking = Counter(parts)
    for is_near in (True, False):
        for reader, worker in lent.items():
            near = readers.get(reader) == places.get(worker)
            if reader in readers and near == is_near and lacking[worker] > 0:
                given[reader] = worker
                lacking[worker] -= 1
    free: dict[str, list[Reader]] = {}
    for reader, machine in readers.items():
        if reader not in given:
            free.setdefault(machine, []).append(reader)
    for worker in sorted(lacking, key=lambda one: -lacking[one]):
        near_by = free.get(places[worker], [])
        while lacking[worker] > 0 and near_by:
            given[near_by.pop()] = worker
            lacking[worker] -= 1
    return given | _anywhere([reader for ones in free.values() for reader in ones], lacking)


def _anywhere(readers: list[Reader], lacking: Mapping[Worker, int]) -> dict[Reader, Worker]:
    """To who lacks most, one by one."""
    queue = [(-lack, number, worker) for number, (worker, lack) in enumerate(lacking.items()) if lack > 0]
    heapq.heapify(queue)
    given: dict[Reader, Worker] = {}
    while queue and readers:
        lack, number, worker = heapq.heappop(queue)
        given[readers.pop()] = worker
        if lack + 1 < 0:
            heapq.heappush(queue, (lack + 1, number, worker))
    return given


def _parts(wanted: Mapping[Worker, int], there: int) -> dict[Worker, int]:
    """What is wanted, or where there are fewer, that in proportion, by the largest remainders."""
    total = sum(wanted.values())
    if total <= there:
        return dict(wanted)
    least = {worker: min(count, 1) for worker, count in wanted.items()}
    if sum(least.values()) >= there:
        lucky = [worker for worker, count in least.items() if count][:there]
        return dict.fromkeys(wanted, 0) | dict.fromkeys(lucky, 1)
    more = there - sum(least.values())
    rest = total - sum(least.values())
    shares = {worker: (count - least[worker]) * more / rest for worker, count in wanted.items()}
    parts = {worker: least[worker] + int(share) for worker, share in shares.items()}
    by_remainder = sorted(shares, key=lambda worker: int(shares[worker]) - shares[worker])
    for worker in by_remainder[: there - sum(parts.values())]:
        parts[worker] += 1
    return parts
