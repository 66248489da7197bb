"""Counts by interval."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Histogram:
    """counts[i] values are in [edges[i], edges[i + 1]); the last interval has its end, too."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]

    @classmethod
    def of(cls, counted: Mapping[float, int], edges: Sequence[float]) -> Histogram:
        """counted: how often each value occurs. Values outside count in the first or last interval."""
        counts = [0] * (len(edges) - 1)
        for value, count in counted.items():
            index = bisect_right(edges, value) - 1
            counts[min(max(index, 0), len(counts) - 1)] += count
        return cls(tuple(edges), tuple(counts))

    def trimmed(self) -> Histogram:
        """Without the empty intervals at both ends."""
        filled = [index for index, count in enumerate(self.counts) if count]
        if not filled:
            return self
        first, last = filled[0], filled[-1] + 1
        return Histogram(self.edges[first : last + 1], self.counts[first:last])


def median_of(counted: Mapping[float, int]) -> float | None:
    """The lower median of values that occur that often; None where there are none."""
    rank = (sum(counted.values()) - 1) // 2
    for value, count in sorted(counted.items()):
        if rank < count:
            return value
        rank -= count
    return None
