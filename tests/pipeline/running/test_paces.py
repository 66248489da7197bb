"""A machine that is far slower than the others is told of once."""

from __future__ import annotations

import pytest
from clipmill.pipeline.running.paces import SECONDS, SHARDS, TIMES, Paces


def test_a_machine_with_a_slow_worker_is_told_of_once() -> None:
    paces = Paces()
    told = []
    for _ in range(SHARDS + 3):
        told.append(paces.done("slow", "a", 3.0 * TIMES, 3.0))
        assert paces.done("beside it", "a", 3.0, 3.0) is None
    assert told == [None] * (SHARDS - 1) + [TIMES] + [None] * 3


@pytest.mark.parametrize("usual", [None, 3.0])
def test_one_large_shard_or_the_first_ones_of_a_run_tell_nothing(usual: float | None) -> None:
    paces = Paces()
    for _ in range(4):
        assert paces.done("w", "a", 100.0 if usual else 1.0, usual) is None
        assert paces.done("v", "b", 100.0, None) is None
        assert paces.done("w", "a", 1.0, usual) is None


def test_machines_are_told_of_apart() -> None:
    paces = Paces()
    assert [paces.done(machine, machine, 90.0, 3.0) for machine in "abab"] == [None, None, 30.0, 30.0]


def test_shards_of_milliseconds_tell_nothing() -> None:
    paces = Paces()
    assert [paces.done("w", "a", 0.9 * SECONDS, SECONDS / 1000) for _ in range(SHARDS + 3)] == [None] * (SHARDS + 3)
