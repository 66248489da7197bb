"""One function over many items, in threads of this process."""

from __future__ import annotations

import os
import time
from threading import Barrier, Lock

import pytest
from clipmill.pipeline.running.scatter import scatter

CORES = os.cpu_count() or 1


@pytest.fixture(autouse=True)
def in_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


@pytest.mark.parametrize(("cpus", "at_once"), [(1.0, CORES), (0.5, max(CORES, min(32, 2 * CORES))), (4.0, CORES)])
def test_items_that_wait_are_worked_on_together(cpus: float, at_once: int) -> None:
    together = Barrier(at_once)

    def square(item: int) -> int:
        together.wait(60)  # seconds; fails where fewer come
        return item * item

    assert dict(scatter(square, range(2 * at_once), cpus=cpus)) == {item: item * item for item in range(2 * at_once)}


def test_items_of_two_kinds_share_the_cores() -> None:
    """While those that wait go on, as many others run as there are cores for, and no more."""
    others, most, lock = 0, 0, Lock()
    waiting = Barrier(5 if CORES > 1 else 4)  # four that wait, and one other, are under way at once

    def work(item: int) -> int:
        nonlocal others, most
        if item < 4:
            waiting.wait(60)
            return item
        with lock:
            others += 1
            most = max(most, others)
        if item == 4 and CORES > 1:
            waiting.wait(60)
        time.sleep(0.01)
        with lock:
            others -= 1
        return item

    done = dict(scatter(work, range(20), cpus=lambda item: 0.1 if item < 4 else 1.0))
    assert done == {item: item for item in range(20)}
    assert 1 <= most <= CORES


def test_once_an_item_fails_none_begins_that_waits_for_a_core() -> None:
    begun: list[int] = []

    def work(item: int) -> int:
        begun.append(item)
        time.sleep(0.2)
        raise ValueError(item)

    with pytest.raises(ValueError):
        dict(scatter(work, range(24), cpus=lambda _: 1.0))
    assert len(begun) < 12  # those that ran, and those that came before it was known
