"""Run as a script: one worker, and processes that read for it on three nodes of a Ray cluster. One of these leaves on
the way, and on another one the process is killed.

reading_nodes.py SHARDS OUT TOLD: the folder of tars, the output, and a file that gets as JSON what happened.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import fakes
import lent_workers
import psutil
import ray
from clipmill.pipeline.dataset.output import Output
from clipmill.pipeline.records import Shard
from clipmill.pipeline.running import reader_pool
from clipmill.pipeline.running.backlog import Limits
from clipmill.pipeline.running.cluster import reader_seats
from clipmill.pipeline.running.driver import run_shards
from clipmill.pipeline.running.events import Event, ShardDone
from clipmill.pipeline.running.placement import Placement
from clipmill.pipeline.running.run_options import RunOptions
from ray.cluster_utils import Cluster

NODE = {"num_cpus": 1, "object_store_memory": 80 << 20}


def kill_one() -> None:
    """A process that reads, as the kernel does when memory runs out. Ray's nodes are children of this script."""
    children = psutil.Process().children(recursive=True)
    reader = next(child for child in children if "ray::ReaderProcess" in " ".join(child.cmdline()))
    os.kill(reader.pid, signal.SIGKILL)


def main(tars: Path, out: Path, told: Path) -> None:
    shards = [Shard(str(tar), tar.stat().st_size) for tar in sorted(tars.glob("*.tar"))]
    output = Output.at(str(out)).prepare()
    reader_pool._LOOK = reader_pool._MACHINES = 1.0
    ray.cloudpickle.register_pickle_by_value(fakes)
    ray.cloudpickle.register_pickle_by_value(lent_workers)
    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    try:
        nodes = [cluster.add_node(**NODE | {"num_cpus": 2}) for _ in range(3)]
        cluster.wait_for_nodes()
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        placement = Placement(1, 1, 0.0, 3, fixed=True)
        machines = {node["NodeID"] for node in ray.nodes()}
        chunks = told.parent / "chunks"
        chunks.mkdir()
        factory = lent_workers.ActorFactory(output, replace(lent_workers.WatchedDecoder.at(chunks), pause=0.3))
        readers = partial(factory.pool, placement, partial(reader_seats, placement))
        events: list[Event] = []
        for event in run_shards(shards, factory, placement, RunOptions(Limits(pause=0.1), readers=readers)):
            events.append(event)
            done = sum(isinstance(each, ShardDone) for each in events)
            if isinstance(event, ShardDone) and done == len(shards) // 3:
                cluster.remove_node(nodes[0], allow_graceful=False)
            if isinstance(event, ShardDone) and done == len(shards) // 2:
                kill_one()
        read_by = Counter(e.stats.reading.machine for e in events if isinstance(e, ShardDone) and e.stats.reading)
        report = {
            "events": Counter(type(event).__name__ for event in events),
            "machines": {name: read_by[name] for name in machines},
        }
        told.write_text(json.dumps(report))
    finally:
        ray.shutdown()
        cluster.shutdown()


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
