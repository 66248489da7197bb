"""How the values of a column are distributed among rows: a histogram, and what lies on each side of a threshold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .numbered_rows import Mask
from .scan import Numbers, highest

Values = npt.NDArray[np.float32]  # [rows of the dataset]; NaN where a row has no value

_BINS = 60
_BLOCK = 1 << 17  # values


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
    rows = len(values) if mask is None else int(mask.sum())
    known = sum(len(finite) for finite in _finite(values, mask))
    if not known:
        return Histogram(0.0, 0.0, [0] * _BINS, rows)
    lowest = min(float(finite.min()) for finite in _finite(values, mask) if len(finite))
    greatest = max(float(finite.max()) for finite in _finite(values, mask) if len(finite))
    width = (greatest - lowest) / _BINS or 1.0
    counts = np.zeros(_BINS, dtype=np.int64)
    for finite in _finite(values, mask):
        bins = np.minimum((finite.astype(np.float64) - lowest) / width, _BINS - 1).astype(np.int64)
        counts += np.bincount(bins, minlength=_BINS)
    return Histogram(lowest, greatest, counts.tolist(), rows - known)


def _finite(values: Values, mask: Mask | None) -> Iterator[Values]:
    """The finite values of the rows in the mask, in blocks that a core's cache holds."""
    for start in range(0, len(values), _BLOCK):
        block = values[start : start + _BLOCK]
        allowed = np.isfinite(block) if mask is None else np.isfinite(block) & mask[start : start + _BLOCK]
        yield block[allowed]


def sides(values: Values, at: np.float32, mask: Mask | None, samples: int) -> Sides:
    """Of the rows in the mask; None: of all. samples: how many rows are named on each side."""
    known = np.isfinite(values) if mask is None else np.isfinite(values) & mask
    rows = len(values) if mask is None else int(mask.sum())
    below, above = (np.flatnonzero(known & side) for side in (values < at, values >= at))
    just_below, _ = highest(below, values[below], samples)
    just_above, _ = highest(above, -values[above], samples)
    return Sides(len(below), len(above), rows - len(below) - len(above), just_below, just_above)
