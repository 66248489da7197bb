"""Machines leave the cluster midway, with and without notice, and another joins: every sample is there once."""

from __future__ import annotations

import json
import os
from pathlib import Path

import nodes
import pytest
import reading_nodes
from chaos_kit import check_exact, files, script
from clipmill.pipeline.dataset.output import Output
from fakes import write_pairs

pytestmark = [pytest.mark.long, pytest.mark.skipif(os.name != "posix", reason="several nodes on one machine")]

SCRIPT = Path(nodes.__file__)


def test_work_of_machines_that_leave_is_done_by_others(tmp_path: Path) -> None:
    tars, out, done, file = (tmp_path / name for name in ("tars", "out", "done", "told.json"))
    tars.mkdir()
    done.mkdir()
    shards = [write_pairs(tars / f"{i:05d}.tar", 16) for i in range(32)]
    script(str(SCRIPT), str(tars), str(out), str(done), str(file), seconds=300, RAY_USAGE_STATS_ENABLED="0")
    told = json.loads(file.read_text())
    print(told)
    events, machines = told["events"], {path.name.partition(".")[0] for path in done.iterdir()}
    assert events["ShardDone"] == len(shards) and "ShardFailed" not in events and "ShardRetried" not in events
    # whether the new node still gets a shard depends on how soon it is up; that workers are added where a cluster has
    # grown is tested in test_driver_patience.py
    assert set(told["nodes"].values()) < machines
    # one of them without notice; the others' workers ended what they had, or let go of it in time (a busy machine may
    # be slow to know that a node is gone or going, and place a worker on it once more)
    assert events["WorkerLost"] >= 1
    assert {count > 0 for count in told["unfinished"]} == {False, True}
    assert all(told["gone"].values())  # a drained machine leaves when nobody works on it any more
    check_exact(out, shards, {name for name in files(out) if name.startswith(".clipmill/staging/")})
    Output.at(str(out)).prepare()
    check_exact(out, shards, set())


def test_what_reads_on_other_machines_is_replaced_when_it_goes(tmp_path: Path) -> None:
    """One machine leaves, and one process is killed: the worker goes on with what is left, and what comes instead."""
    tars, out, file = (tmp_path / name for name in ("tars", "out", "told.json"))
    tars.mkdir()
    shards = [write_pairs(tars / f"{i:05d}.tar", 40) for i in range(24)]
    script(reading_nodes.__file__, str(tars), str(out), str(file), seconds=300, RAY_USAGE_STATS_ENABLED="0")
    told = json.loads(file.read_text())
    print(told)
    events = told["events"]
    assert events["ShardDone"] == len(shards) and "ShardFailed" not in events and "WorkerLost" not in events
    assert 1 <= events["ShardRetried"] <= 4
    assert sum(count > 0 for count in told["machines"].values()) >= 3 and sum(told["machines"].values()) == len(shards)
    check_exact(out, shards, {name for name in files(out) if name.startswith(".clipmill/staging/")})
