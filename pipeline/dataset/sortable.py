"""Numbers as whole numbers in the same order, and counts of their digits of 16 bits: what finds an exact k-th largest
without sorting (`filtering/kth.py`), and what the narrow table's histograms are made of."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]
Keys = npt.NDArray[np.uint64]
Counts = npt.NDArray[np.int64]  # [65536]

DIGITS = (48, 32, 16, 0)  # where each 16 bits of a key begin


def keys_of(numbers: Doubles) -> Keys:
    """Whole numbers in the same order. No NaN among them; -0.0 counts as 0.0."""
    bits = (numbers + 0.0).view(np.uint64)
    negative = bits >> np.uint64(63) == 1
    return np.where(negative, ~bits, bits | np.uint64(1 << 63))


def value_of(key: int) -> float:
    """The number that `keys_of` gives this key."""
    bits = key ^ (1 << 63) if key >> 63 else key ^ ((1 << 64) - 1)
    return float(np.uint64(bits).view(np.float64))


def with_prefix(keys: Keys, prefix: int, digit: int) -> Keys:
    """The keys that begin with the `digit` times 16 bits of `prefix`."""
    return keys[has_prefix(keys, prefix, digit)]


def has_prefix(keys: Keys, prefix: int, digit: int) -> npt.NDArray[np.bool_]:
    """Of each key whether it does."""
    if digit == 0:
        return np.ones(len(keys), bool)
    has: npt.NDArray[np.bool_] = keys >> np.uint64(DIGITS[digit - 1]) == prefix
    return has


def digit_counts(keys: Keys, digit: int) -> Counts:
    return np.bincount(((keys >> np.uint64(DIGITS[digit])) & np.uint64(0xFFFF)).astype(np.int64), minlength=1 << 16)
