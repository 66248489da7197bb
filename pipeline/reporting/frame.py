"""What sums need to know of all rows before any are added up: about where thresholds are, and how many rows recipes
judge. Rows near a threshold are kept by their values; of the others, how many there are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

FRACTIONS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)
TOP = 0.3  # of all pairs: DataComp's share, by which groups and datasets are compared

FINE = 1 << 4  # of these bins are in one of `COARSE`
COARSE = 1000  # bins a unit of similarity: bars and curve are made of them
BINS = FINE * COARSE
_SLACK = 400  # a window reaches so far: a part in so many of the rows, to either side of its threshold

Bins = Mapping[int, int]  # of `BINS` a unit of similarity: how many rows are in each
Window = tuple[int, int]  # the first bin, and the one after the last


def rank_of(count: int, fraction: float) -> int:
    """DataComp's rule: of n values the one of rank int(n · fraction), from 0 and downwards, is the threshold."""
    return min(int(count * fraction), count - 1)


@dataclass(frozen=True)
class Frame:
    """windows: by model's alias, for each of FRACTIONS the bins where its threshold may be. level: recipes judge rows
    whose hash is a multiple of 2**level."""

    windows: Mapping[str, tuple[Window, ...]] = field(default_factory=dict)
    level: int = 0

    @classmethod
    def of(cls, bins: Mapping[str, Bins], rows: int, most: int) -> Frame:
        """bins: of all rows, by model's alias. most: rows that recipes judge."""
        windows = {alias: tuple(_window(of, fraction) for fraction in FRACTIONS) for alias, of in bins.items() if of}
        return cls(windows, level_of(rows, most))

    @classmethod
    def read(cls, told: Mapping[str, Any]) -> Frame:
        """From `as_json`."""
        windows = {alias: tuple((first, stop) for first, stop in of) for alias, of in told["windows"].items()}
        return cls(windows, told["level"])

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def fits(self, bins: Mapping[str, Bins], rows: int, most: int) -> bool:
        """Whether it will do for these rows. Parameters: as `of`."""
        scored = {alias: of for alias, of in bins.items() if of}
        if not scored.keys() <= self.windows.keys() or self.level > level_of(rows, most):
            return False
        return all(
            first <= _bin_at(of, rank_of(sum(of.values()), fraction)) < stop
            for alias, of in scored.items()
            for fraction, (first, stop) in zip(FRACTIONS, self.windows[alias], strict=True)
        )

    def top(self, alias: str) -> Window | None:
        """Where the threshold of the top 30 % may be; None where no row has a similarity."""
        return self.windows[alias][FRACTIONS.index(TOP)] if alias in self.windows else None


def level_of(rows: int, most: int) -> int:
    """So that about `most` rows at the most have a hash that is a multiple of 2**level."""
    return max(0, math.ceil(math.log2(rows / most))) if rows else 0


def _window(bins: Bins, fraction: float) -> Window:
    count = sum(bins.values())
    rank, slack = rank_of(count, fraction), count // _SLACK
    return _bin_at(bins, min(rank + slack, count - 1)), _bin_at(bins, max(rank - slack, 0)) + 1


def _bin_at(bins: Bins, rank: int) -> int:
    """The bin of the value at a rank, from 0 and downwards."""
    for bin, count in sorted(bins.items(), reverse=True):
        if rank < count:
            return bin
        rank -= count
    raise AssertionError("ranks are below the number of values")
