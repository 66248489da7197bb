"""The exact k-th largest of many numbers that no machine holds together: radix selection over counts.

Each pass counts, part by part, how many numbers have each value of their next 16 bits, among those that share the bits
known so far. Once few enough share them, the numbers themselves are collected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from ..dataset.sortable import DIGITS, Counts, Keys, value_of

_FEW = 1 << 22  # numbers that may be in memory together

# Of all parts: the counts of a digit, and the keys, of numbers whose key begins with `prefix`.
CountDigit = Callable[[int, int], Counts]
CollectKeys = Callable[[int, int], Iterable[Keys]]


def kth_largest(rank_of: Callable[[int], int], count: CountDigit, collect: CollectKeys) -> float | None:
    """The number at a rank of the descending order; None where there are no numbers.

    rank_of: the rank, from 0, given the number of numbers. count, collect: called with a prefix and the index in
    `sortable.DIGITS` of the digit that follows it.
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
