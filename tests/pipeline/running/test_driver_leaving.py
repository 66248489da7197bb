"""Machines that are about to leave the cluster: their workers end or give back what they have, nobody is blamed."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from clipmill.pipeline.errors import InfrastructureError
from clipmill.pipeline.records import Shard
from clipmill.pipeline.running import driver as module
from clipmill.pipeline.running.driver import run_shards
from clipmill.pipeline.running.events import Event, ShardDone, WorkerLost, WorkerMoved, WorkersStarted
from clipmill.pipeline.running.placement import Placement
from clipmill.pipeline.running.run_options import RunOptions
from fake_handles import FakeCluster

SHARDS = [Shard(f"/{i:02d}.tar") for i in range(12)]
TWO = Placement(2, 1, 0.0)


def run(after_a_shard: Callable[[], object]) -> list[Event]:
    """All events; `after_a_shard` happens when the first shard is done."""
    events: list[Event] = []
    for event in itertools.islice(run_shards(SHARDS, object, TWO), 1000):  # type: ignore[arg-type]
        events.append(event)
        if isinstance(event, ShardDone) and sum(isinstance(each, ShardDone) for each in events) == 1:
            after_a_shard()
    return events


def check_all_done(events: list[Event]) -> None:
    """Every shard is done once, and nothing else happened than that workers moved."""
    assert sorted(e.shard.url for e in events if isinstance(e, ShardDone)) == [shard.url for shard in SHARDS]
    assert {type(event) for event in events} == {WorkersStarted, ShardDone, WorkerMoved}


def moved(events: list[Event]) -> list[int]:
    return [event.unfinished for event in events if isinstance(event, WorkerMoved)]


def test_a_worker_ends_what_it_has_and_gets_no_more(machines: FakeCluster) -> None:
    held: list[Shard] = []

    def notice() -> None:
        machines.leaving["a"] = 1000.0
        held.extend(machines.handles["a"].given)

    events = run(notice)
    check_all_done(events)
    assert moved(events) == [0]
    assert machines.handles["a"].given == held
    assert machines.handles["c"].given


def test_what_it_cannot_end_in_time_is_given_to_others(machines: FakeCluster) -> None:
    def notice() -> None:
        machines.leaving["a"] = 1.0
        machines.stuck.add("a")

    events = run(notice)
    check_all_done(events)
    (unfinished,) = moved(events)
    assert unfinished > 0


def test_without_a_deadline_it_has_all_the_time(machines: FakeCluster) -> None:
    events = run(lambda: machines.leaving.update(a=float("inf")))
    check_all_done(events)
    assert moved(events) == [0]


def test_a_machine_that_is_gone_before_its_time_is_no_lost_worker(machines: FakeCluster) -> None:
    def notice() -> None:
        machines.leaving["a"] = 1000.0
        machines.dying.add("a")

    check_all_done(run(notice))


def test_however_many_leave_the_run_goes_on(machines: FakeCluster) -> None:
    """Unlike workers that keep dying."""
    nodes = "abcdefghijklmnopqrstuvw"
    machines.leaving |= dict.fromkeys(nodes, 1000.0)
    events = run(lambda: None)
    check_all_done(events)
    assert moved(events) == [0] * len(nodes)


def test_when_no_machine_is_left_the_run_ends_and_says_how_to_go_on(
    machines: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_GROW", 0)
    events = run_shards(SHARDS, object, TWO, RunOptions(patience=0.05))  # type: ignore[arg-type]
    assert isinstance(next(events), WorkersStarted)
    machines.leaving |= {"a": 1000.0, "b": 1000.0}
    machines.has_room = False
    with pytest.raises(InfrastructureError, match="no machine left for workers; run the same command again"):
        list(events)


def test_one_that_dies_unannounced_is_lost(machines: FakeCluster) -> None:
    events = run(lambda: machines.dying.add("a"))
    assert sum(isinstance(event, WorkerLost) for event in events) == 1 and moved(events) == []
