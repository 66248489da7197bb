"""Workers that hang for longer than a shard may take."""

from __future__ import annotations

import pytest
from clipmill.pipeline.records import Shard
from clipmill.pipeline.running.backlog import Limits
from clipmill.pipeline.running.driver import run_shards
from clipmill.pipeline.running.events import ShardDone, ShardFailed, ShardRetried
from clipmill.pipeline.running.placement import Placement
from clipmill.pipeline.running.run_options import RunOptions
from fake_handles import FakeCluster

SHARDS = [Shard(f"/{i}.tar") for i in range(5)]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_worker_that_hangs_with_all_it_has_loses_all_of_it(machines: FakeCluster, workers: int) -> None:
    """Both shards of a worker were given at the same moment, and are overdue at the same moment."""
    machines.stuck.add("a")
    orders = RunOptions(Limits(deadline=0.05, pause=0.0))
    events = list(run_shards(SHARDS, object, Placement(workers, 1, 0.0), orders))  # type: ignore[arg-type]
    assert sorted(e.shard.url for e in events if isinstance(e, ShardDone)) == [shard.url for shard in SHARDS]
    assert [e.reason for e in events if isinstance(e, ShardRetried)] == ["not done within the deadline of 0.05 s"] * 2


def test_shards_that_hang_wherever_they_are_tried_are_given_up(machines: FakeCluster) -> None:
    machines.stuck |= set("abc")
    orders = RunOptions(Limits(attempts=2, deadline=0.02, pause=0.0))
    events = list(run_shards(SHARDS[:2], object, Placement(1, 1, 0.0), orders))  # type: ignore[arg-type]
    assert [(e.shard.url, e.attempt) for e in events if isinstance(e, ShardFailed)] == [("/0.tar", 2), ("/1.tar", 2)]
