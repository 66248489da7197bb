"""What a run has cost by now: the price of its machines, over time. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..job.prices import Names, Prices


@dataclass
class Bill:
    """Machines are looked at now and then; between two looks they are taken to be as at the earlier one, and before the
    first as at that. Times are seconds of any monotonic clock."""

    prices: Prices
    began: float
    _total: float = 0.0  # at the last look
    _since: float | None = None  # the last look
    _a_second: float = 0.0  # since then

    def see(self, now: float, machines: Sequence[Names], workers: int) -> None:
        """The machines of the cluster, and the run's workers."""
        a_second = self.prices.an_hour(machines, workers) / 3600
        if self._since is None:
            self._since, self._a_second = self.began, a_second
        self._total = self.total(now)
        self._since, self._a_second = now, a_second

    def total(self, now: float) -> float:
        """What was spent."""
        return self._total + (now - self._since) * self._a_second if self._since is not None else 0.0

    def lasts(self, budget: float, now: float) -> float:
        """Seconds until a budget is spent, with the machines of now; not above 0 where it is."""
        left = budget - self.total(now)
        if left <= 0 or not self._a_second:
            return math.inf if left > 0 else 0.0
        return left / self._a_second
