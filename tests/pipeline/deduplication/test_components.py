"""Connected components of pairs."""

from __future__ import annotations

import numpy as np
from clipmill.pipeline.deduplication.components import connect, spanning
from hypothesis import given
from hypothesis import strategies as st

PAIRS = st.lists(st.tuples(st.integers(0, 29), st.integers(0, 29)), max_size=60)


def one_by_one(pairs: list[tuple[int, int]], count: int) -> list[int]:
    """The textbook's way: each thing's lowest, relabelled for every pair."""
    lowest = list(range(count))
    for a, b in pairs:
        low, high = sorted((lowest[a], lowest[b]))
        lowest = [low if each == high else each for each in lowest]
    return lowest


def as_array(pairs: list[tuple[int, int]]) -> np.ndarray:
    return np.array(pairs, np.int64).reshape(-1, 2)


@given(PAIRS, PAIRS)
def test_everything_knows_the_lowest_that_it_is_connected_to(now: list, later: list) -> None:
    first = connect(np.arange(30), as_array(now))
    assert first.tolist() == one_by_one(now, 30)
    assert connect(first, as_array(later)).tolist() == one_by_one(now + later, 30)


@given(PAIRS)
def test_the_spanning_pairs_connect_the_same_and_are_fewest(pairs: list) -> None:
    first = connect(np.arange(30), as_array(pairs))
    few = spanning(first)
    assert len(few) == 30 - len(set(first.tolist()))
    assert np.array_equal(connect(np.arange(30), few), first)


def test_a_long_chain_in_any_order_is_one_component() -> None:
    order = np.random.default_rng(0).permutation(100_000)
    chain = np.stack([order[:-1], order[1:]], axis=1)
    assert not connect(np.arange(100_000), chain).any()
