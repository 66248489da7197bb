"""The k-th largest number by counting digits: the same as sorting, whatever the numbers and the parts."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from clipmill.pipeline.dataset.sortable import Counts, Keys, digit_counts, keys_of, value_of, with_prefix
from clipmill.pipeline.filtering import kth
from clipmill.pipeline.filtering.kth import kth_largest
from hypothesis import given
from hypothesis import strategies as st

numbers = st.lists(st.floats(allow_nan=False) | st.sampled_from([0.0, -0.0, 0.25, 0.3]), max_size=60)


def select(parts: list[list[float]], rank: int) -> float | None:
    """By counting alone, part by part, as filtering does."""
    keys = [keys_of(np.array(part, np.float64)) for part in parts]

    def count(prefix: int, digit: int) -> Counts:
        return sum(
            (digit_counts(with_prefix(part, prefix, digit), digit) for part in keys), np.zeros(1 << 16, np.int64)
        )

    def collect(prefix: int, digit: int) -> Iterator[Keys]:
        return (with_prefix(part, prefix, digit) for part in keys)

    return kth_largest(lambda numbers: min(rank, numbers - 1), count, collect)


@pytest.mark.parametrize("few", [0, 5, 1 << 22])  # digit by digit to the last, or looked at once there are few
@given(parts=st.lists(numbers, max_size=4), rank=st.integers(0, 80))
def test_it_is_what_sorting_finds(few: int, parts: list[list[float]], rank: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kth, "_FEW", few)
        found = select(parts, rank)
    descending = sorted((number for part in parts for number in part), reverse=True)
    assert found == (descending[min(rank, len(descending) - 1)] if descending else None)


@given(st.lists(st.floats(allow_nan=False), min_size=1))
def test_keys_are_in_the_numbers_order_and_lead_back(values: list[float]) -> None:
    keys = keys_of(np.array(values))
    assert [value_of(int(key)) for key in keys] == values
    assert np.array_equal(np.argsort(keys, kind="stable"), np.argsort(np.array(values) + 0.0, kind="stable"))


def test_float32_ties_of_many_rows_are_exact() -> None:
    scores = np.round(np.random.default_rng(0).normal(0.27, 0.05, 100_000), 3).astype(np.float32)
    parts = [part.astype(np.float64).tolist() for part in np.array_split(scores, 7)]
    found = select(parts, int(len(scores) * 0.3))
    assert found == float(np.sort(scores)[::-1][int(len(scores) * 0.3)])
