"""Which shard is next: attempts, pauses between them, and who is late. Pure; time is the caller's.

A shard is given up when it has failed on several machines, as far as there are several: one broken machine uses up
nobody's attempts. Where failures pass (machines come and go, a network is bad), it gets more attempts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

from ..records import Shard

_SEVERAL = 4  # shards: a bad one fails its neighbours, too, at each of its three attempts
_BEYOND = 1.2  # times what nearly all shards took: what takes longer is no large shard, but a late one


@dataclass(frozen=True)
class Limits:
    """How patient the driver is."""

    attempts: int = 3  # a shard, on as many machines, as far as there are so many
    more_attempts: int = 2  # where failures pass
    most_attempts: int = 9  # wherever
    pause: float = 1.0  # seconds before the second attempt, doubled for each further one
    deadline: float | None = None  # seconds; a shard in hand for longer is taken away
    silent: float = 10.0  # times the median; a worker that tells of no row for so long is replaced
    late: float = 2.0  # times the median, from which a shard is late
    least_late: float = 20.0  # seconds; nothing is late before


@dataclass
class _InWork:
    """A shard in somebody's hands."""

    shard: Shard
    since: float
    machine: str  # of the first who got it
    copies: int = 1


class Backlog:
    """The shards of a run, from waiting to done or given up. `now` is the time in seconds of any monotonic clock."""

    def __init__(self, shards: Iterable[Shard], limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._waiting = deque(shards)
        self._again: deque[Shard] = deque()  # what failed before and may be tried again
        self._paused: list[tuple[float, Shard]] = []  # until when
        self._in_work: dict[str, _InWork] = {}  # by URL, in the order in which they were taken
        self._failures: dict[str, list[str]] = {}  # the machines, by the shard's URL
        self._recovered = 0  # shards that had failed and were done
        self.machines = 1  # that have workers now
        self._closed = False
        self._seconds: deque[float] = deque(maxlen=101)  # that recent shards took

    def add(self, shards: Iterable[Shard]) -> None:
        """More of them."""
        if not self._closed:
            self._waiting.extend(shards)

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits and nothing is out."""
        return not (self._waiting or self._again or self._paused or self._in_work)

    @property
    def waiting(self) -> int:
        """Shards that may be taken now."""
        return len(self._waiting) + len(self._again)

    def is_out(self, shard: Shard) -> bool:
        """Whether somebody has it in hand, and nobody has done it."""
        return shard.url in self._in_work

    @property
    def paused(self) -> int:
        """Shards that may be tried again in a while."""
        return len(self._paused)

    @property
    def tries_left(self) -> int:
        """Workers that shards may need which have failed and are tried again: each attempt is on another machine."""
        if not self._failures:
            return 0
        tried = self._again or self._paused or any(url in self._failures for url in self._in_work)
        return self._limits.attempts if tried else 0

    def failed_before(self, shard: Shard) -> bool:
        return shard.url in self._failures

    def attempt(self, shard: Shard) -> int:
        """Which one it is in, or next, from 1."""
        return len(self._failures.get(shard.url, ())) + 1

    def peek(self, now: float, machine: str = "", again: bool = True) -> Shard | None:
        """What `take` would give a worker of that machine. again: whether it may be what failed before."""
        for entry in [entry for entry in self._paused if entry[0] <= now]:
            self._paused.remove(entry)
            self._again.append(entry[1])
        failed = (shard for shard in self._again if again and self._may_try(shard, machine))
        return next(failed, None) or (self._waiting[0] if self._waiting else None)

    def _may_try(self, shard: Shard, machine: str) -> bool:
        """Whether it has not failed there, or everywhere else, too."""
        failed_on = set(self._failures.get(shard.url, ()))
        return machine not in failed_on or len(failed_on) >= self.machines

    def take(self, now: float, machine: str = "", again: bool = True) -> Shard:
        shard = self.peek(now, machine, again)
        if shard is None:
            raise IndexError("nothing waits")
        if shard in self._again:
            self._again.remove(shard)
        else:
            self._waiting.popleft()
        self._in_work[shard.url] = _InWork(shard, now, machine)
        return shard

    def out_for(self, shard: Shard, now: float) -> float | None:
        """Seconds since it was given out; None where nobody has it, or several have."""
        out = self._in_work.get(shard.url)
        return now - out.since if out is not None and out.copies == 1 else None

    def done(self, shard: Shard, now: float) -> bool:
        """False where another copy of it was done, or given up, before."""
        out = self._in_work.pop(shard.url, None)
        if out is None:
            return False
        self._seconds.append(now - out.since)
        self._recovered += shard.url in self._failures
        return True

    def failed(self, shard: Shard, now: float, final: bool = False, machine: str = "") -> bool:
        """Count a failed attempt on a machine; whether it was the last one. A failed copy of a shard that somebody else
        has, or had, does not count."""
        out = self._in_work.get(shard.url)
        if out is None:
            return False
        out.copies -= 1
        return (out.copies <= 0 or final) and self._count(shard, now, final, machine)

    def expire(self, shard: Shard, now: float, machine: str = "") -> bool:
        """Take it from all who have it, as a failed attempt; whether it was the last one."""
        return self._count(shard, now, final=False, machine=machine)

    def forgive(self, machine: str) -> None:
        """What failed there was the machine's fault, and is nothing that a shard is to be blamed for."""
        for url, machines in list(self._failures.items()):
            kept = [other for other in machines if other != machine]
            if kept:
                self._failures[url] = kept
            else:
                del self._failures[url]

    def _count(self, shard: Shard, now: float, final: bool, machine: str) -> bool:
        del self._in_work[shard.url]
        failures = self._failures.setdefault(shard.url, [])
        failures.append(machine)
        more = self._limits.more_attempts if self._recovered >= _SEVERAL else 0
        enough = len(failures) >= self._limits.attempts + more
        everywhere = len(set(failures)) >= min(self._limits.attempts, self.machines)
        if final or (enough and everywhere) or len(failures) >= self._limits.most_attempts:
            return True
        if not self._closed:
            self._paused.append((now + self._limits.pause * 2 ** min(len(failures) - 1, 4), shard))
        return False

    def give_back(self, shard: Shard) -> None:
        """Taken from a worker through no fault of the shard's; it waits first in line. Nothing for one that failed."""
        out = self._in_work.get(shard.url)
        if out is None:
            return
        out.copies -= 1
        if out.copies == 0:
            del self._in_work[shard.url]
            if not self._closed:
                self._waiting.appendleft(shard)

    def late(self, now: float, machine: str = "") -> Shard | None:
        """When nothing else is left to do: a shard, out far longer than others took, for a second worker to try; on
        another machine, where there are several. A copy pays where the first attempt is far behind nearly all others:
        it would take about the median, and its worker has nothing else to do."""
        if self.waiting or self._paused or not self._seconds:
            return None
        after, elsewhere = self._late_after(), self.machines > 1 and machine
        for out in self._in_work.values():  # whoever has been out for longest comes first
            if now - out.since <= after:
                break
            if out.copies == 1 and not (elsewhere and out.machine == machine):
                out.copies += 1
                return out.shard
        return None

    def _late_after(self) -> float:
        taken = sorted(self._seconds)
        nearly_all = taken[int(0.95 * (len(taken) - 1))]
        return max(self._limits.late * median(taken), _BEYOND * nearly_all, self._limits.least_late)

    def usual(self) -> float | None:
        """Seconds that recent shards took; None before the first one is done."""
        return median(self._seconds) if self._seconds else None

    def overdue(self, now: float) -> list[Shard]:
        """Shards out for longer than the deadline allows."""
        if self._limits.deadline is None:
            return []
        return [out.shard for out in self._in_work.values() if now - out.since > self._limits.deadline]

    def close(self) -> int:
        """Give out no more; how many that leaves undone, besides those that are out."""
        self._closed = True
        count = self.waiting + len(self._paused)
        self._waiting.clear()
        self._again.clear()
        self._paused.clear()
        return count
