"""One function over many items, in threads of this process."""

from __future__ import annotations

import os
import time
from threading import Barrier, Event, Lock

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


def test_items_of_two_kinds_are_worked_on_side_by_side() -> None:
    """Those that wait keep none of the others from its core, and of the others no more run than there are cores."""
    others, most, lock = 0, 0, Lock()
    waiting = Barrier(5)  # four that wait, and one other, are under way at once

    def work(item: int) -> int:
        nonlocal others, most
        if item < 4:
            waiting.wait(60)
            return item
        with lock:
            others += 1
            most = max(most, others)
        if item == 4:
            waiting.wait(60)
        time.sleep(0.01)
        with lock:
            others -= 1
        return item

    done = dict(scatter(work, range(20), cpus=lambda item: 0.1 if item < 4 else 1.0))
    assert done == {item: item for item in range(20)}
    assert 1 <= most <= CORES


def test_once_an_item_fails_no_other_begins() -> None:
    begun, failed = list[int](), Event()

    def work(item: int) -> int:
        begun.append(item)
        if item == 0:
            failed.set()
            raise ValueError(item)
        failed.wait(60)
        time.sleep(0.3)
        return item

    with pytest.raises(ValueError, match="0"):
        dict(scatter(work, range(1000), cpus=lambda item: 0.1 if item % 2 else 1.0))
    assert len(begun) < 500
