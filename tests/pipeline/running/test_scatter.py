"""One function over many items, in threads of this process."""

from __future__ import annotations

import os
from threading import Barrier

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
