"""How the values of a column are distributed among rows: a histogram, and what lies on each side of a threshold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .numbered_rows import Mask
from .scan import Numbers, highest

Values = npt.NDArray[np.float32]  # [rows of the dataset]; NaN where a row has no value

_BINS = 60


@dataclass(frozen=True)
class Histogram:
    """counts: of equal bins from `lowest` to `highest`. missing: rows without a finite value."""

    lowest: float
    highest: float
    counts: list[int]
    missing: int


@dataclass(frozen=True)
class Sides:
    """The rows on either side of a threshold: how many, and the positions of those nearest to it, nearest first."""

    below: int
    above: int  # at the threshold, too
    missing: int  # rows without a finite value
    just_below: Numbers
    just_above: Numbers


def histogram(values: Values, mask: Mask | None) -> Histogram:
    """Of the rows in the mask; None: of all."""
    chosen = values if mask is None else values[mask]
    finite = chosen[np.isfinite(chosen)].astype(np.float64)
    missing = len(chosen) - len(finite)
    if not len(finite):
        return Histogram(0.0, 0.0, [0] * _BINS, missing)
    lowest, greatest = float(finite.min()), float(finite.max())
    width = (greatest - lowest) / _BINS or 1.0
    bins = np.minimum((finite - lowest) / width, _BINS - 1).astype(np.int64)
    return Histogram(lowest, greatest, np.bincount(bins, minlength=_BINS).tolist(), missing)


def sides(values: Values, at: np.float32, mask: Mask | None, samples: int) -> Sides:
    """Of the rows in the mask; None: of all. samples: how many rows are named on each side."""
    known = np.isfinite(values) if mask is None else np.isfinite(values) & mask
    rows = len(values) if mask is None else int(mask.sum())
    below, above = (np.flatnonzero(known & side) for side in (values < at, values >= at))
    just_below, _ = highest(below, values[below], samples)
    just_above, _ = highest(above, -values[above], samples)
    return Sides(len(below), len(above), rows - len(below) - len(above), just_below, just_above)
