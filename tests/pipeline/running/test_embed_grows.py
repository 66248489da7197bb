"""A cluster that grows: it is asked for what is wanted, and waited for as long as the job says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from clipmill.pipeline import EmbedJob
from clipmill.pipeline.errors import UserError
from clipmill.pipeline.running import autoscaler
from clipmill.pipeline.running import staff as module
from clipmill.pipeline.running.autoscaler import Demand, demanded
from clipmill.pipeline.running.placement import Placement, divide
from clipmill.pipeline.running.run_options import RunOptions
from clipmill.pipeline.running.until import WhenAsked

JOB = EmbedJob(["a.tar"], "out", "tiny", workers=3, gpus_per_worker=1)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the autoscaler is asked for."""
    seen: list[Any] = []
    monkeypatch.setattr(autoscaler, "request_resources", lambda bundles: seen.append(bundles))
    return seen


def test_the_autoscaler_is_asked_for_as_many_workers_and_let_go_at_the_end(asked: list[Any]) -> None:
    with demanded(3, 1.0):
        assert asked == [[{"GPU": 1.0}] * 3]
    with pytest.raises(ZeroDivisionError), demanded(2, None):
        _ = 1 / 0
    assert asked[1:] == [[], [{"CPU": 1.0}] * 2, []]


def test_without_a_number_of_workers_nothing_is_asked_for(asked: list[Any]) -> None:
    with demanded(None, 1.0):
        pass
    assert asked == []


def test_what_reads_is_asked_for_beside_the_workers_and_only_when_that_changes(asked: list[Any]) -> None:
    with demanded(2, 1.0) as demand:
        for cpus in ([4.0, 3.0], [4.0, 3.0], [4.0]):
            demand.need("readers", [{"CPU": size} for size in cpus])
    workers = [{"GPU": 1.0}] * 2
    assert asked == [workers, [*workers, {"CPU": 4.0}, {"CPU": 3.0}], [*workers, {"CPU": 4.0}], []]


def test_the_first_machine_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[list[dict[str, float]]] = [[{"CPU": 0}], [{"CPU": 0}], [{"CPU": 0}, {"CPU": 8, "GPU": 1}]]
    monkeypatch.setattr(module, "place", lambda *asked: divide(looks.pop(0), *asked))
    monkeypatch.setattr(module, "_POLL", 0.01)
    assert module.find_placement(replace(JOB, wait_for_machines=30), 9) == Placement(1, 2, 1, 2)


def options_on(
    looks: list[list[dict[str, float]]], job: EmbedJob, shards: int, monkeypatch: pytest.MonkeyPatch
) -> tuple[Placement, RunOptions]:
    """On a cluster that has these machines at first, and then those."""
    monkeypatch.setattr(module, "room", lambda placement: placement.room(looks.pop(0)))
    placement = divide(looks[0], job.workers, job.gpus_per_worker, shards)
    return placement, module.run_options(job, WhenAsked(), shards, placement, Demand(lambda _: None))


@pytest.mark.parametrize(
    ("before", "after", "workers", "expected"),
    [
        ([{"CPU": 8, "GPU": 1}], [{"CPU": 8, "GPU": 1}] * 3, 2, 2),  # no more than asked for
        ([{"CPU": 8, "GPU": 1}], [{"CPU": 8, "GPU": 1}] * 3, None, 3),
        ([{"CPU": 4}], [{"CPU": 4}, {"CPU": 28}], None, 32),  # of one core each, as the first ones
        ([{"CPU": 12}], [{"CPU": 12}], None, 6),
        ([{"CPU": 12}], [{"CPU": 12}, {"CPU": 5}], None, 8),  # of two
        ([{"CPU": 16}], [{"CPU": 8}], 1, 0),  # the worker of 16 cores fits on no machine that is left
        ([{"CPU": 8, "GPU": 1}], [], 2, 0),
    ],
)
def test_there_are_as_many_more_workers_of_the_same_size_as_there_is_more_room(
    before: list[dict[str, float]],
    after: list[dict[str, float]],
    workers: int | None,
    expected: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job = replace(JOB, workers=workers, gpus_per_worker=None)
    _, orders = options_on([before, after], job, 99, monkeypatch)
    assert orders.workers() == expected


def test_the_driver_is_as_patient_as_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    machines: list[dict[str, float]] = [{"CPU": 8, "GPU": 1}]
    assert options_on([machines], replace(JOB, wait_for_machines=300), 9, monkeypatch)[1].patience == 300
    assert options_on([machines], JOB, 9, monkeypatch)[1].patience == 60


@pytest.mark.parametrize("job", [JOB, replace(JOB, gpus_per_worker=None), replace(JOB, workers=None)])
def test_one_that_does_not_come_in_time_is_told_with_what_to_do(job: EmbedJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "place", lambda *asked: divide([{"CPU": 0}], *asked))
    with pytest.raises(UserError, match="--wait-for-machines SECONDS"):
        module.find_placement(job, 9)
