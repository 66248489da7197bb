"""Busy time by stage."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from clipmill.pipeline.clock import Clock


def test_stages_add_up() -> None:
    clock = Clock()
    for _ in range(2):
        with clock.stage("write"):
            time.sleep(0.02)
    assert list(clock.seconds) == ["write"]
    assert 0.04 <= clock.seconds["write"] <= clock.total()


def test_a_stage_that_fails_was_busy_too() -> None:
    clock = Clock()
    with pytest.raises(OSError), clock.stage("write"):
        time.sleep(0.02)
        raise OSError
    assert clock.seconds["write"] >= 0.02


def test_making_items_is_timed_and_using_them_is_not() -> None:
    def items() -> Iterator[int]:
        for item in range(3):
            time.sleep(0.02)
            yield item

    clock, used = Clock(), []
    for item in clock.timed("read", items()):
        used.append(item)
        time.sleep(0.1)
    assert used == [0, 1, 2]
    assert 0.06 <= clock.seconds["read"] < 0.3 <= clock.total()
