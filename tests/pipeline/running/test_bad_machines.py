"""Some bad machines among good ones: every shard is done all the same, and the machines are named."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from clipmill.pipeline.errors import InfrastructureError
from clipmill.pipeline.records import Shard
from clipmill.pipeline.running.backlog import Limits
from clipmill.pipeline.running.driver import run_shards
from clipmill.pipeline.running.events import MachineLeftOut, ShardDone, ShardFailed, ShardRetried, WorkerReplaced
from clipmill.pipeline.running.placement import Placement
from clipmill.pipeline.running.run_options import RunOptions
from fake_handles import NAMES, FakeCluster

SCRIPT = Path(__file__).parents[2] / "kit" / "bad_nodes.py"
SHARDS = [Shard(f"/{i:03d}.tar") for i in range(60)]


@pytest.mark.long
def test_bad_machines_of_all_kinds_take_no_shard_with_them(tmp_path: Path) -> None:
    """Of eight, one cannot start a worker, one fails at once, one hangs, one is slow; ten good workers are killed."""
    told = tmp_path / "told.json"
    command = [sys.executable, str(SCRIPT), "400", "10", str(told), "starts", "fails", "hangs", "slow"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert ran.returncode == 0, ran.stderr[-3000:]
    happened = json.loads(told.read_text())
    assert happened["done"] == [f"/{i:05d}.tar" for i in range(400)] and happened["failed"] == []
    assert {"starts", "fails"} <= set(happened["left_out"]) <= {"starts", "fails", "hangs"}  # it hangs once, or more
    assert "no GPU driver" in happened["left_out"]["starts"] and "CUDA error" in happened["left_out"]["fails"]
    assert len(happened["lost"]) >= 8
    assert set(happened["slow"]) <= {"slow"}  # each takes longer where machines are busy


def run(cluster_options: Placement, **limits: Any) -> list[Any]:
    options = RunOptions(Limits(pause=0.0, **limits))
    return list(run_shards(SHARDS, object, cluster_options, options))  # type: ignore[arg-type]


def test_a_machine_whose_workers_fail_at_once_costs_nobody_a_shard(machines: FakeCluster) -> None:
    machines.failing |= {"a", "e"}  # the first worker there, and the one that takes its place
    machines.same = {"e": "a"}
    events = run(Placement(4, 1, 0.0))
    assert sum(isinstance(event, ShardDone) for event in events) == len(SHARDS)
    assert not any(isinstance(event, ShardFailed) for event in events)
    assert [event.machine for event in events if isinstance(event, MachineLeftOut)] == ["a"]
    assert sum(isinstance(event, WorkerReplaced) for event in events) == 2
    assert sum(isinstance(event, ShardRetried) for event in events) == 4


def test_where_all_machines_fail_alike_shards_are_given_up_and_no_machine_is(machines: FakeCluster) -> None:
    machines.failing |= set("abcdefghijklmnopqrstuvwxyz")
    events = run(Placement(2, 1, 0.0), attempts=2)[:80]
    assert not any(isinstance(event, MachineLeftOut) for event in events)
    assert any(isinstance(event, ShardFailed) for event in events)


def test_a_worker_that_cannot_start_is_not_the_end_while_others_can(machines: FakeCluster) -> None:
    machines.refusing |= {"b", "e"}
    machines.same = {"e": "b"}
    events = run(Placement(4, 1, 0.0))
    assert sum(isinstance(event, ShardDone) for event in events) == len(SHARDS)
    assert [event.machine for event in events if isinstance(event, MachineLeftOut)] in (["b"], [])


def test_where_most_of_the_first_cannot_start_alike_that_is_the_reason(machines: FakeCluster) -> None:
    machines.refusing |= {"a", "b", "c"}
    with pytest.raises(InfrastructureError, match=r"^no GPU driver$"):
        run(Placement(4, 1, 0.0))


def test_a_run_whose_workers_cannot_be_replaced_ends(machines: FakeCluster) -> None:
    """A GPU that has fallen off the bus: the only worker dies, and no other starts on the only machine."""
    machines.dying.add("a")
    machines.refusing |= set(NAMES) - {"a"}
    with pytest.raises(InfrastructureError, match="workers cannot start any more: no GPU driver"):
        run(Placement(1, 1, 0.0))
