"""Run as a script: fake shards over eight nodes of a Ray cluster, some of which are bad in one way or another.

bad_nodes.py SHARDS KILLS TOLD KIND…: how many shards, how many good workers are killed on the way, a file that gets as
JSON what happened, and for each bad node its kind: starts (a worker cannot), fails (at once), hangs, slow.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import ray
from clipmill.pipeline.errors import InfrastructureError
from clipmill.pipeline.records import Shard, ShardStats
from clipmill.pipeline.running import crew
from clipmill.pipeline.running.backlog import Limits
from clipmill.pipeline.running.cluster import room
from clipmill.pipeline.running.driver import run_shards
from clipmill.pipeline.running.events import (
    MachineLeftOut,
    MachineSlow,
    ShardDone,
    ShardFailed,
    WorkerLost,
    WorkerReplaced,
)
from clipmill.pipeline.running.placement import Placement
from clipmill.pipeline.running.run_options import RunOptions
from ray.cluster_utils import Cluster

NODES, PAUSE = 8, 0.1
UNHURRIED = 5  # times as long a shard takes until the machines that fail are known, so that no run ends before
LEFT_OUT = {"starts", "fails"}


@dataclass
class Worker:
    """Does what its machine is like."""

    kinds: dict[str, str]  # of machines
    kills: Path  # a file for each good worker that is to be killed
    known: Path  # a file that is there once the machines that fail are left out
    kind: str = field(init=False, default="")

    def __post_init__(self) -> None:
        self.kind = self.kinds.get(ray.get_runtime_context().get_node_id(), "")
        if self.kind == "starts":
            raise InfrastructureError("no GPU driver")

    def embed(self, shard: Shard, on_rows: Callable[[int, int], None]) -> ShardStats:
        if self.kind == "fails":
            raise OSError("CUDA error")
        if self.kind == "hangs":
            time.sleep(600)
        if not self.kind:
            for kill in sorted(self.kills.iterdir()):
                with suppress(FileNotFoundError):  # another one was first
                    kill.unlink()
                    os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(PAUSE * (20 if self.kind == "slow" else 1 if self.known.exists() else UNHURRIED))
        on_rows(1, 0)
        return ShardStats(shard.url, 1, 1)


@dataclass(frozen=True)
class Factory:
    kinds: dict[str, str]
    kills: Path
    known: Path

    def __call__(self) -> Worker:
        return Worker(self.kinds, self.kills, self.known)


def main(count: int, kills: int, told: Path, kinds: list[str]) -> None:
    crew._LEAST_SILENT = 5.0
    folder, known = told.parent / "kills", told.parent / "known"
    folder.mkdir()
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    node = {"num_cpus": 1, "object_store_memory": 80 << 20}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "num_cpus": 0, "include_dashboard": False})
    try:
        nodes = [cluster.add_node(**node).node_id for _ in range(NODES)]
        cluster.wait_for_nodes()
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        placement, shards = Placement(NODES, 1, 0.0), [Shard(f"/{i:05d}.tar") for i in range(count)]
        bad = dict(zip(nodes, kinds, strict=False))
        options = RunOptions(Limits(pause=0.1), workers=lambda: room(placement))
        awaited = {node for node, kind in bad.items() if kind in LEFT_OUT}
        events = []
        for event in run_shards(shards, Factory(bad, folder, known), placement, options):
            events.append(event)
            if isinstance(event, MachineLeftOut):
                awaited.discard(event.machine)
            if not awaited:
                known.touch()
            done = sum(isinstance(each, ShardDone) for each in events)
            if kills and isinstance(event, ShardDone) and done % (count // (kills + 1)) == 0:
                (folder / str(done)).touch()
        out = {event.machine: event.reason for event in events if isinstance(event, MachineLeftOut)}
        happened = {
            "done": sorted(event.shard.url for event in events if isinstance(event, ShardDone)),
            "failed": [event.reason for event in events if isinstance(event, ShardFailed)],
            "left_out": {bad.get(machine, "good"): reason for machine, reason in out.items()},
            "slow": {bad.get(e.machine, "good"): e.times for e in events if isinstance(e, MachineSlow)},
            "counts": Counter(type(event).__name__ for event in events),
            "lost": [event.reason[:80] for event in events if isinstance(event, WorkerLost)],
            "replaced": [event.reason for event in events if isinstance(event, WorkerReplaced)],
        }
        told.write_text(json.dumps(happened))
    finally:
        ray.shutdown()
        cluster.shutdown()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:])
