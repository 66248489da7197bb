"""A cluster that grows: it is asked for what is wanted, and waited for as long as the job says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from clipmill.pipeline import EmbedJob, cluster
from clipmill.pipeline import run as module
from clipmill.pipeline.cluster import asked_for
from clipmill.pipeline.errors import UserError
from clipmill.pipeline.running.placement import Placement, divide

JOB = EmbedJob(["a.tar"], "out", "tiny", workers=3, gpus_per_worker=1)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the autoscaler is asked for."""
    seen: list[Any] = []
    monkeypatch.setattr(cluster, "request_resources", lambda bundles: seen.append(bundles))
    return seen


def test_the_autoscaler_is_asked_for_as_many_workers_and_let_go_at_the_end(asked: list[Any]) -> None:
    with asked_for(3, 1.0):
        assert asked == [[{"GPU": 1.0}] * 3]
    with pytest.raises(ZeroDivisionError), asked_for(2, None):
        _ = 1 / 0
    assert asked[1:] == [[], [{"CPU": 1.0}] * 2, []]


def test_without_a_number_of_workers_nothing_is_asked_for(asked: list[Any]) -> None:
    with asked_for(None, 1.0):
        pass
    assert asked == []


def test_the_first_machine_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[list[dict[str, float]]] = [[{"CPU": 0}], [{"CPU": 0}], [{"CPU": 0}, {"CPU": 8, "GPU": 1}]]
    monkeypatch.setattr(module, "place", lambda *asked: divide(looks.pop(0), *asked))
    monkeypatch.setattr(module, "_LOOK", 0.01)
    assert module._placed(replace(JOB, wait_for_machines=30), 9) == Placement(1, 2, 1, 2, 3)


def test_where_all_machines_leave_the_driver_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "place", lambda *asked: divide([], *asked))
    orders = module._orders(replace(JOB, wait_for_machines=300), lambda: False, 9)
    assert orders.grown() is None and orders.patience == 300
    assert module._orders(JOB, lambda: False, 9).patience == 60


@pytest.mark.parametrize("job", [JOB, replace(JOB, gpus_per_worker=None), replace(JOB, workers=None)])
def test_one_that_does_not_come_in_time_is_told_with_what_to_do(job: EmbedJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "place", lambda *asked: divide([{"CPU": 0}], *asked))
    with pytest.raises(UserError, match="--wait-for-machines SECONDS"):
        module._placed(job, 9)
