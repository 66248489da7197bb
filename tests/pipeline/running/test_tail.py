"""Workers that have nothing left to do are released, and others made where there is something to do again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import pytest
import ray
from clipmill.pipeline.records import Shard
from clipmill.pipeline.running import driver as module
from clipmill.pipeline.running import tail
from clipmill.pipeline.running.autoscaler import Demand
from clipmill.pipeline.running.backlog import Limits
from clipmill.pipeline.running.driver import run_shards
from clipmill.pipeline.running.events import (
    DoneElsewhere,
    Event,
    ShardDone,
    ShardFailed,
    Waiting,
    WorkersAdded,
    WorkersReleased,
)
from clipmill.pipeline.running.placement import Placement
from clipmill.pipeline.running.run_options import RunOptions
from clipmill.pipeline.running.tail import first_to_go
from fake_handles import FakeCluster, FakeHandle
from fakes import FakeWorkers

SHARDS = [Shard(f"/{number:03d}.tar") for number in range(200)]


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail, "_PATIENCE", 0.0)
    monkeypatch.setattr(module, "_GROW", 0.0)


def released(events: list[Event]) -> int:
    return sum(event.workers for event in events if isinstance(event, WorkersReleased))


def done(events: list[Event]) -> list[str]:
    return sorted(event.shard.url for event in events if isinstance(event, ShardDone))


def run(machines: FakeCluster, workers: int, options: RunOptions, source: object = SHARDS) -> Iterator[Event]:
    yield from islice(run_shards(source, object, Placement(workers, 1, 0.0), options), 5000)  # type: ignore[arg-type]


def test_while_others_end_their_shards_idle_workers_go_but_for_a_spare_one(machines: FakeCluster, soon: None) -> None:
    machines.stuck.update("ab")
    needed: list[int] = []
    events: list[Event] = []
    for event in run(machines, 20, RunOptions(need=needed.append)):
        events.append(event)
        if released(events) == 17:  # two are at work, one is kept
            assert needed[-1] == 3
            machines.stuck.clear()
    assert not machines.stuck and done(events) == [shard.url for shard in SHARDS]


def test_nobody_is_released_while_there_is_enough_to_do(machines: FakeCluster, soon: None) -> None:
    events: list[Event] = []
    for event in run(machines, 20, RunOptions()):
        events.append(event)
        if len(done(events)) < len(SHARDS) - 40:
            assert released(events) == 0
    assert len(done(events)) == len(SHARDS)


def test_a_shard_that_fails_at_the_end_still_finds_other_machines(machines: FakeCluster, soon: None) -> None:
    machines.failing.update("a")
    events = list(run(machines, 20, RunOptions(Limits(pause=0.0))))
    assert done(events) == [shard.url for shard in SHARDS]
    assert not any(isinstance(event, ShardFailed) for event in events)


@dataclass
class Shared:
    """Another run has all shards in hand for a while; then it dies or has done them."""

    dies: bool
    looks: int = 30
    told: list[Shard] = field(default_factory=list)
    taken: bool = False

    @property
    def waits(self) -> bool:
        return self.looks > 0 and not self.taken

    @property
    def left(self) -> int:
        return 0 if self.taken else len(SHARDS)

    def take(self, wanted: int = 1) -> list[Shard]:
        self.looks -= 1
        if self.looks > 0 or self.taken:
            return []
        self.taken = True
        if not self.dies:
            self.told = list(SHARDS)
        return list(SHARDS) if self.dies else []

    def elsewhere(self) -> list[Shard]:
        told, self.told = self.told, []
        return told

    def give_up(self) -> None:
        self.taken = True


@pytest.mark.parametrize("dies", [False, True])
def test_a_run_that_waits_for_another_keeps_no_worker_and_makes_them_again_if_that_one_dies(
    dies: bool, machines: FakeCluster, soon: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "settled", lambda *rest: (time.sleep(0.001), machines.settled(*rest))[1])
    options = RunOptions(workers=lambda: 8, patience=0.01)
    events = list(run(machines, 8, options, Shared(dies)))
    assert any(isinstance(event, Waiting) for event in events)
    first = next(event for event in events if isinstance(event, WorkersReleased))
    assert first == WorkersReleased(8)  # nobody complains of a cluster without workers, however long that lasts
    if dies:
        assert WorkersAdded(8) in events and done(events) == [shard.url for shard in SHARDS]
    else:
        assert DoneElsewhere(len(SHARDS)) in events and done(events) == []
        assert not any(isinstance(event, WorkersAdded) for event in events)


def test_a_late_shard_is_copied_on_another_machine_while_the_spare_worker_is_there(
    machines: FakeCluster, soon: None
) -> None:
    machines.stuck.add("a")
    machines.same.update(b="a")  # on the same machine
    events = list(run(machines, 20, RunOptions(Limits(least_late=0.05))))
    assert done(events) == [shard.url for shard in SHARDS]
    last = machines.handles["a"].given[-1]
    copies = [name for name, handle in machines.handles.items() if last in handle.given]
    assert len(copies) == 2 and "b" not in copies


def test_the_first_to_go_leave_machines_empty_and_those_that_stay_are_apart() -> None:
    def handle(node: str, ready: bool = True) -> FakeHandle:
        return FakeHandle(node, is_ready=ready)

    starting, alone, twin, beside, other = handle("", False), handle("x"), handle("x"), handle("busy"), handle("y")
    ranked = first_to_go([alone, beside, twin, other, starting], {"busy"})
    assert ranked[0] is starting and ranked[1] is twin and ranked[-1] is beside
    assert {worker.node for worker in ranked[2:]} == {"x", "y", "busy"}


def test_the_autoscaler_is_asked_for_what_is_needed_and_never_for_more_than_was_wanted() -> None:
    asked: list[list[dict[str, float]]] = []
    demand = Demand(asked.append, {"GPU": 1.0}, most=4)
    for workers in (4, 900, 4, 2, 2, 0, 3):
        demand.need_workers(workers)
    demand.need("readers", [{"CPU": 4.0}])
    assert [len(bundles) for bundles in asked] == [4, 2, 0, 3, 4]
    assert asked[-1] == [{"GPU": 1.0}] * 3 + [{"CPU": 4.0}]


def test_what_is_released_is_free_for_others_while_the_last_shard_goes_on(
    cluster: None, tmp_path: Path, soon: None
) -> None:
    before = ray.available_resources()["CPU"]
    shards = [Shard(f"s3://bucket/{name}.tar") for name in ("hung-0", "slow-0", "slow-1")]
    options = RunOptions(Limits(least_late=600.0))
    events = run_shards(shards, FakeWorkers(tmp_path), Placement(3, 0.25, 0.0), options)
    for event in events:
        if isinstance(event, WorkersReleased):
            break
    end = time.monotonic() + 20
    while ray.available_resources()["CPU"] != before - 0.5 and time.monotonic() < end:
        time.sleep(0.1)
    assert ray.available_resources()["CPU"] == before - 0.5  # one hangs, one is kept
    events.close()  # type: ignore[attr-defined]
