"""Processes read where they are needed: fast workers get more of them than slow ones, near ones first."""

from __future__ import annotations

from collections import Counter

import pytest
from clipmill.pipeline.running.lending import MOST_LENT, Appetite, lend
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("lent", "waited", "wanted"),
    [
        (4, 0.0, 8),  # they never waited: nobody knows how many it could use
        (4, 0.1, 5),
        (4, 0.2, 4),
        (4, 0.5, 3),
        (4, 0.95, 2),  # by halves
        (1, 0.0, 2),
        (1, 0.9, 1),
        (60, 0.0, MOST_LENT),
        (10, 0.15, 10),  # close enough
    ],
)
def test_a_worker_needs_as_many_as_keep_it_busy_and_wait_a_little(lent: int, waited: float, wanted: int) -> None:
    appetite = Appetite()
    appetite.now_has(lent)
    for told in range(lent):
        assert appetite.wanted() == lent, f"after {told} of their shards"
        appetite.hear(waited)
    assert appetite.wanted() == wanted


def test_what_was_told_of_another_number_is_forgotten() -> None:
    appetite = Appetite(1)
    appetite.hear(0.0)
    appetite.now_has(2)
    assert appetite.wanted() == 2


@pytest.mark.parametrize("pace", [0.5, 2.0, 7.5, 40.0])
def test_the_number_settles_where_a_fifth_of_their_time_is_waiting(pace: float) -> None:
    """pace: of the worker, in what one process reads."""
    appetite = Appetite()
    appetite.now_has(8)
    seen = []
    for _ in range(12):
        for _ in range(appetite.lent):
            appetite.hear(max(0.0, 1.0 - pace / appetite.lent))
        appetite.now_has(appetite.wanted())
        seen.append(appetite.lent)
    assert len(set(seen[-6:])) == 1, seen
    assert pace <= seen[-1] <= 1.5 * pace + 1


def test_near_ones_first_then_those_from_anywhere_to_who_lacks_most() -> None:
    readers = dict(zip(range(7), "aaabccc", strict=True))
    lent = lend({"x": 3, "y": 4}, {"x": "a", "y": "b"}, readers, {})
    assert {reader for reader, worker in lent.items() if worker == "x"} == {0, 1, 2}
    assert {reader for reader, worker in lent.items() if worker == "y"} == {3, 4, 5, 6}


def test_as_few_change_as_can_be() -> None:
    readers = dict.fromkeys(range(6), "a")
    before = {0: "x", 1: "y", 2: "x", 3: "y", 4: "x", 5: "y"}
    places = {"x": "a", "y": "a"}
    assert lend({"x": 3, "y": 3}, places, readers, before) == before
    after = lend({"x": 2, "y": 4}, places, readers, before)
    assert sum(after[reader] != before[reader] for reader in readers) == 1


def test_those_of_a_worker_that_is_gone_and_those_that_are_gone_are_lent_no_more() -> None:
    assert lend({"x": 1}, {"x": "a"}, {1: "a"}, {0: "x", 1: "gone"}) == {1: "x"}


@given(
    st.dictionaries(st.integers(0, 30), st.integers(0, 20), min_size=1),
    st.lists(st.integers(0, 5), max_size=80),
    st.data(),
)
def test_nobody_gets_more_than_wanted_and_none_is_idle_while_somebody_lacks_one(
    wanted: dict[int, int], machines: list[int], data: st.DataObject
) -> None:
    places = {worker: str(data.draw(st.integers(0, 5))) for worker in wanted}
    readers = {number: str(machine) for number, machine in enumerate(machines)}
    before = {number: data.draw(st.sampled_from([*wanted])) for number in readers if data.draw(st.booleans())}
    lent = lend(wanted, places, readers, before)
    counts = Counter(lent.values())
    assert all(counts[worker] <= count for worker, count in wanted.items())
    assert len(lent) == min(len(readers), sum(wanted.values()))
    if len(readers) >= len(wanted):  # nobody is left without
        assert all(counts[worker] for worker, count in wanted.items() if count)
