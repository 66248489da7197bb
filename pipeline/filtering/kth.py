"""The exact k-th largest of many numbers that no machine holds together: radix selection over counts.

Each pass counts, part by part, how many numbers have each value of their next 16 bits, among those that share the bits
known so far. Once few enough share them, the numbers themselves are collected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]
Keys = npt.NDArray[np.uint64]
Counts = npt.NDArray[np.int64]  # [65536]

DIGITS = (48, 32, 16, 0)  # where each 16 bits of a key begin
_FEW = 1 << 22  # numbers that may be in memory together

# Of all parts: the counts of a digit, and the keys, of numbers whose key begins with `prefix`.
CountDigit = Callable[[int, int], Counts]
CollectKeys = Callable[[int, int], Iterable[Keys]]


def kth_largest(rank_of: Callable[[int], int], count: CountDigit, collect: CollectKeys) -> float | None:
    """The number at a rank of the descending order; None where there are no numbers.

    rank_of: the rank, from 0, given the number of numbers. count, collect: called with a prefix and the index in
    `DIGITS` of the digit that follows it.
    """
    counts = count(0, 0)
    numbers = int(counts.sum())
    if not numbers:
        return None
    rank, prefix, digit = rank_of(numbers), 0, 0
    while True:
        above = np.cumsum(counts[::-1])  # numbers with this value or a higher one, highest first
        index = int(np.searchsorted(above, rank, side="right"))
        value = len(counts) - 1 - index
        rank -= int(above[index] - counts[value])
        prefix, digit = prefix << 16 | value, digit + 1
        if digit == len(DIGITS):
            return value_of(prefix)
        if counts[value] <= _FEW:
            keys = np.concatenate(list(collect(prefix, digit)))
            index = len(keys) - 1 - rank
            return value_of(int(np.partition(keys, index)[index]))
        counts = count(prefix, digit)


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
    return keys if digit == 0 else keys[keys >> np.uint64(DIGITS[digit - 1]) == prefix]


def digit_counts(keys: Keys, digit: int) -> Counts:
    return np.bincount(((keys >> np.uint64(DIGITS[digit])) & np.uint64(0xFFFF)).astype(np.int64), minlength=1 << 16)
