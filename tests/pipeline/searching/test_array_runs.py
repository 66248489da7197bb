"""Rows in another order than their file's are read as an array of them in order would be."""

from __future__ import annotations

import numpy as np
from clipmill.pipeline.searching.array_runs import Runs, in_order
from hypothesis import given
from hypothesis import strategies as some


@given(some.lists(some.integers(0, 5), min_size=1, max_size=6), some.randoms(use_true_random=False), some.data())
def test_they_read_as_an_array_does(rows: list[int], random: object, data: some.DataObject) -> None:
    parts = list(range(len(rows)))
    random.shuffle(parts)  # type: ignore[attr-defined]
    stored = np.arange(2 * sum(rows), dtype=np.float16).reshape(-1, 2)
    ends = np.cumsum([rows[part] for part in parts])
    places = np.zeros(len(rows), dtype=np.int64)
    places[parts] = ends - [rows[part] for part in parts]  # part i begins there in the file
    whole = np.concatenate([stored[at : at + count] for at, count in zip(places, rows, strict=True)])
    read = in_order(stored, places, np.array(rows))
    assert isinstance(read, (Runs, np.ndarray)) and read.shape == whole.shape and len(read) == len(whole)
    assert np.array_equal(np.asarray(read), whole)
    start, stop = sorted(data.draw(some.tuples(some.integers(0, len(whole) + 2), some.integers(0, len(whole) + 2))))
    assert np.array_equal(read[start:stop], whole[start:stop])
    if len(whole):
        chosen = np.array(data.draw(some.lists(some.integers(0, len(whole) - 1))), dtype=np.int64)
        assert np.array_equal(read[chosen], whole[chosen]) and np.array_equal(read[0], whole[0])


def test_parts_that_follow_each_other_are_one_array() -> None:
    stored = np.arange(12.0).reshape(6, 2)
    assert isinstance(in_order(stored, np.array([1, 3, 3]), np.array([2, 0, 2])), np.ndarray)
    assert isinstance(in_order(stored, np.array([3, 1]), np.array([2, 2])), Runs)
