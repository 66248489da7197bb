"""Run as a script: shards over the nodes of a Ray cluster, three of which go while it works, and another comes.

nodes.py SHARDS OUT DONE TOLD: the folder of tars, the output, a folder for the notes of who did what, and a file that
gets as JSON what happened (Ray itself writes to the console).
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import chaos_kit
import fakes
import ray
from clipmill.pipeline.dataset.output import Output
from clipmill.pipeline.records import Shard
from clipmill.pipeline.running import driver as module
from clipmill.pipeline.running.backlog import Limits
from clipmill.pipeline.running.cluster import place, room
from clipmill.pipeline.running.driver import run_shards
from clipmill.pipeline.running.events import Event, ShardDone, WorkerMoved
from clipmill.pipeline.running.run_options import RunOptions
from ray._raylet import GcsClient
from ray.cluster_utils import Cluster
from ray.core.generated import autoscaler_pb2

NODE = {"num_cpus": 1, "object_store_memory": 80 << 20}


@dataclass
class Going:
    """A node whose end comes as soon as it has done a shard: midway in those that it has."""

    how: str
    node: str
    end: Callable[[], object]
    is_over: bool = False


def drain(cluster: Cluster, node: str, seconds: float) -> None:
    """As when a cloud takes a spot machine back."""
    reason = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
    deadline = int((time.time() + seconds) * 1000)
    accepted, why = GcsClient(address=cluster.address).drain_node(node, reason, "taken back", deadline)
    assert accepted, why


def is_alive(node: str) -> bool:
    return any(each["Alive"] for each in ray.nodes() if each["NodeID"] == node)


def main(tars: Path, out: Path, done: Path, told: Path) -> None:
    shards = [Shard(str(tar), tar.stat().st_size) for tar in sorted(tars.glob("*.tar"))]
    Output.at(str(out)).prepare()
    module._GROW = 1.0
    ray.cloudpickle.register_pickle_by_value(fakes)
    ray.cloudpickle.register_pickle_by_value(chaos_kit)
    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    try:
        lost, spot, hasty = (cluster.add_node(**NODE) for _ in range(3))
        cluster.wait_for_nodes()
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        ends = [
            Going("lost", lost.node_id, lambda: cluster.remove_node(lost, allow_graceful=False)),
            Going("drained", spot.node_id, lambda: drain(cluster, spot.node_id, 60)),
            Going("drained in haste", hasty.node_id, lambda: drain(cluster, hasty.node_id, 1)),
        ]
        placement = place(None, 0.0, len(shards))
        orders = RunOptions(Limits(), workers=lambda: room(placement))
        events: list[Event] = []
        for event in run_shards(shards, chaos_kit.SlowFactory(str(out), done, pause=0.3), placement, orders):
            events.append(event)
            for going in ends:
                if isinstance(event, ShardDone) and not going.is_over and any(done.glob(f"{going.node}.*")):
                    going.end()
                    going.is_over = True
                    if going.how == "lost":
                        cluster.add_node(**NODE)
        gone = {going.how: chaos_kit.until(lambda going=going: not is_alive(going.node), 30) for going in ends}
        report = {
            "events": Counter(type(event).__name__ for event in events),
            "unfinished": [event.unfinished for event in events if isinstance(event, WorkerMoved)],
            "nodes": {going.how: going.node for going in ends},
            "gone": gone,
        }
        told.write_text(json.dumps(report))
    finally:
        ray.shutdown()
        cluster.shutdown()


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
