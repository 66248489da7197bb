"""How many requests a second a process sends to a bucket: what the bucket's store lets through, and a quarter more.

Nobody coordinates. A store that has more requests than it allows throttles all clients alike (503 SlowDown, 429); each
counts what it got through. What every second adds to a pace is the same for the fast and for the slow, so that nobody
starves (additive increase, multiplicative decrease: Chiu and Jain, 1989). A quarter of overload keeps the store busy,
and where it refuses at random, which a slower pace does not cure, hardly anybody slows down.
"""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass

_TOGETHER = 1000.0  # requests a second that all processes of a run begin with; S3 allows 5,500 a prefix
_MORE = 1.25  # times what was let through
_STEP, _LEAST_STEP = 0.05, 0.2  # added to that: a part of what each began with, and requests a second
_WINDOW, _LONGEST_WINDOW = 1.0, 5.0  # seconds between two looks,
_ANSWERS = 16  # of which the shorter one needs so many
_BURST = 0.1  # seconds' worth of requests that may go at once
_PATIENCE = 120.0  # seconds without one request let through: then the store is not busy, but ill


@dataclass(frozen=True)
class Share:
    """A process's share of its run's requests. Picklable, and small."""

    processes: int = 1  # that send requests
    limit: float | None = None  # requests a second of all of them to a bucket, where somebody set one

    @property
    def most(self) -> float:
        return self.limit / self.processes if self.limit else float("inf")

    @property
    def first(self) -> float:
        return min(_TOGETHER / self.processes, self.most)

    @property
    def step(self) -> float:
        return max(_STEP * _TOGETHER / self.processes, _LEAST_STEP)


class Pace:
    """Of one bucket, in this process. `now` is the time in seconds of any monotonic clock. Thread-safe."""

    def __init__(self, share: Share, now: float) -> None:
        self._lock = threading.Lock()
        self._most, self.rate, self._step = share.most, share.first, share.step
        self._next = now + random.uniform(0, 1 / self.rate)  # so that processes do not begin all at once
        self._let_through_at: float | None = None
        self._begin(now)

    def wait(self, now: float) -> float:
        """Seconds until the request that asks may go."""
        with self._lock:
            self._look(now)
            start = max(self._next, now - _BURST)
            self._next = start + random.uniform(0.5, 1.5) / self.rate  # or two clients keep step, and one gets nothing
            self._waited |= start > now
            return max(0.0, start - now)

    def answered(self, now: float, throttled: bool) -> None:
        with self._lock:
            if throttled:
                self._throttled += 1
            else:
                self._let_through += 1
                self._let_through_at = now
            self._look(now)

    def lets_through(self, now: float) -> bool:
        """Whether the store, though it throttles, still works."""
        return self._let_through_at is not None and now - self._let_through_at < _PATIENCE

    def _begin(self, now: float) -> None:
        self._since, self._let_through, self._throttled, self._waited = now, 0, 0, False

    def _look(self, now: float) -> None:
        """Adjust the rate, once a window. Where it held nobody back and nobody was throttled, it stays."""
        age = now - self._since
        are_many = self._let_through + self._throttled >= _ANSWERS
        if age < (_WINDOW if are_many else _LONGEST_WINDOW):
            return
        rate = _MORE * self._let_through / age + self._step
        if not are_many:  # which tells little
            rate = max(rate, self.rate / 2)
        if not self._throttled:
            rate = max(rate, self.rate) if self._waited else self.rate
        rate = min(rate, self._most)
        self._next = now + (self._next - now) * self.rate / rate  # who waits already has its time
        self.rate = rate
        self._begin(now)


_share = Share()
_paces: dict[str, Pace] = {}
_lock = threading.Lock()


def settle(share: Share) -> None:
    """This process's share from now on. Without, it is taken for the only one. The same again changes nothing."""
    global _share
    with _lock:
        if share != _share:
            _share = share
            _paces.clear()


def pace_of(bucket: str) -> Pace:
    """bucket: any name that is the same for all of its requests."""
    with _lock:
        if bucket not in _paces:
            _paces[bucket] = Pace(_share, time.monotonic())
        return _paces[bucket]
