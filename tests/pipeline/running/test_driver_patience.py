"""Shards that hang or lag, and runs that are asked to stop."""

from __future__ import annotations

from pathlib import Path

import pytest
from clipmill.pipeline.records import Shard
from clipmill.pipeline.running.backlog import Limits
from clipmill.pipeline.running.driver import run_shards
from clipmill.pipeline.running.events import (
    Event,
    ShardDone,
    ShardFailed,
    ShardLate,
    ShardRetried,
    Stopping,
    WorkersAdded,
)
from clipmill.pipeline.running.placement import Placement
from clipmill.pipeline.running.run_options import RunOptions
from clipmill.pipeline.running.until import WhenAsked
from fakes import FakeWorkers, attempts

TWO = Placement(2, 1, 0.0)


def shards(*names: str) -> list[Shard]:
    return [Shard(f"s3://bucket/{name}.tar") for name in names]


def done(events: list[Event]) -> list[str]:
    return sorted(Path(event.shard.url).stem for event in events if isinstance(event, ShardDone))


def test_a_shard_that_hangs_is_taken_away_at_the_deadline_and_its_neighbour_not_blamed(
    cluster: None, tmp_path: Path
) -> None:
    orders = RunOptions(Limits(deadline=3.0, pause=0.1))
    names = ("hung-0", "slow-0", "fine-0", "fine-1")
    events = list(run_shards(shards(*names), FakeWorkers(tmp_path), TWO, orders))
    assert done(events) == sorted(names)
    retried = [event for event in events if isinstance(event, ShardRetried)]
    assert [event.reason for event in retried] == ["not done within the deadline of 3 s"]
    assert attempts(tmp_path)["hung-0"] == 2 and not any(isinstance(event, ShardFailed) for event in events)


def test_a_straggler_is_tried_by_a_second_worker_when_nothing_else_is_left(cluster: None, tmp_path: Path) -> None:
    orders = RunOptions(Limits(late=3.0, least_late=2.0))
    events = list(run_shards(shards("hung-0", "fine-0", "fine-1"), FakeWorkers(tmp_path), TWO, orders))
    assert done(events) == ["fine-0", "fine-1", "hung-0"]
    assert [event.shard.url for event in events if isinstance(event, ShardLate)] == ["s3://bucket/hung-0.tar"]


def test_asked_to_stop_it_ends_what_is_in_hand_and_tells_what_is_left(cluster: None, tmp_path: Path) -> None:
    asked: list[bool] = []
    names = tuple(f"slow-{i}" for i in range(9))
    events: list[Event] = []
    for event in run_shards(
        shards(*names), FakeWorkers(tmp_path), TWO, RunOptions(until=WhenAsked(lambda: bool(asked)))
    ):
        events.append(event)
        if isinstance(event, ShardDone):
            asked.append(True)
    (stopping,) = [event for event in events if isinstance(event, Stopping)]
    assert len(done(events)) + stopping.left == len(names) and stopping.left > 0 and stopping.in_hand > 0
    assert sum(attempts(tmp_path).values()) == len(done(events))  # nothing was begun in vain


def test_workers_are_added_when_the_cluster_has_grown(
    cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clipmill.pipeline.running.driver._GROW", 0.5)
    orders = RunOptions(workers=lambda: 2)
    names = tuple(f"slow-{i}" for i in range(8))
    events = list(run_shards(shards(*names), FakeWorkers(tmp_path), Placement(1, 1, 0.0), orders))
    assert [event for event in events if isinstance(event, WorkersAdded)] == [WorkersAdded(1)]
    assert done(events) == sorted(names)
