"""How long a run may go on: until it is asked to stop, its deadline is near, or its budget is spent."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Protocol

from ..job.embed import EmbedJob
from ..job.moments import seconds_until
from ..job.prices import Names
from .bill import Bill

_LOOK = 15.0  # seconds between two looks at which machines there are


@dataclass(frozen=True)
class Answer:
    """To whether a run may go on."""

    begin: bool = True  # more shards
    go_on: bool = True  # with those in hand
    why: str = ""  # not; nothing where the run's caller wants it


class Until(Protocol):
    """What the driver asks, several times a second."""

    def ask(self, workers: int, usual: float | None) -> Answer:
        """workers: of the run now. usual: seconds that a shard takes, once that is known."""


@dataclass(frozen=True)
class WhenAsked:
    """No other limit than the caller's word."""

    is_asked: Callable[[], bool] = lambda: False

    def ask(self, workers: int, usual: float | None) -> Answer:
        return Answer(begin=not self.is_asked())


@dataclass
class Limited:
    """A deadline and a budget, too. What cannot be done in time is not begun; what is in hand then is let go of."""

    is_asked: Callable[[], bool]
    bill: Bill
    deadline: float = math.inf  # by the clock below
    budget: float = math.inf
    machines: Callable[[], Sequence[Names]] = tuple  # of the cluster
    clock: Callable[[], float] = time.monotonic
    reached: str = ""  # which of the limits
    _next_look: float = -math.inf

    @classmethod
    def of(
        cls, job: EmbedJob, began: float, is_asked: Callable[[], bool], machines: Callable[[], Sequence[Names]]
    ) -> Limited:
        """began: the run, by time.monotonic."""
        now = datetime.now(timezone.utc)
        deadline = began + seconds_until(job.deadline, now) if job.deadline else math.inf
        budget = math.inf if job.budget is None else job.budget
        return cls(is_asked, Bill(job.prices, began), deadline, budget, machines)

    def ask(self, workers: int, usual: float | None) -> Answer:
        now = self.clock()
        if self.bill.prices and now >= self._next_look:
            self._next_look = now + _LOOK
            self.bill.see(now, self.machines(), workers)
        left, why = min((self.deadline - now, "--deadline"), (self.bill.lasts(self.budget, now), "--budget"))
        if left > (usual or 0.0):
            return Answer(begin=not self.is_asked())
        self.reached = self.reached or ("" if self.is_asked() else why)
        return Answer(begin=False, go_on=left > 0, why=self.reached)

    def unpriced(self) -> list[str]:
        """Kinds of machines that are there and have no price."""
        return self.bill.prices.missing(self.machines()) if self.bill.prices else []
