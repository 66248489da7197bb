"""Connected components of pairs, by vectors instead of one pair at a time (as Shiloach and Vishkin 1982 do)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]


def connect(first: Ids, pairs: Ids) -> Ids:
    """first: int64 [n], for each of n things the lowest of its component so far, `arange(n)` to begin with. pairs:
    int64 [m, 2] of things that are connected. Returns `first` with the pairs taken in; the input stays as it is.

    Each round at least halves the components that still have to meet.
    """
    first = first.copy()
    while len(pairs):
        ends = first[pairs]
        apart = ends[:, 0] != ends[:, 1]
        pairs, ends = pairs[apart], ends[apart]
        np.minimum.at(first, ends.max(axis=1), ends.min(axis=1))
        while not np.array_equal(further := first[first], first):
            first = further
    return first


def spanning(first: Ids) -> Ids:
    """The fewest pairs that connect the same: int64 [k, 2], of each thing and the lowest of its component."""
    others = np.flatnonzero(first != np.arange(len(first)))
    return np.stack([others, first[others]], axis=1)
