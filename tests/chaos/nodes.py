"""Run as a script: shards over three nodes of a Ray cluster, one of which leaves midway, and another comes.

nodes.py SHARDS OUT DONE TOLD: the folder of tars, the output, a folder for the notes of who did what, and a file that
gets as JSON what happened (Ray itself writes to the console).
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

import fakes
import kit
import ray
from clipmill.pipeline import cluster as module
from clipmill.pipeline.backlog import Limits
from clipmill.pipeline.cluster import Orders, place, run_shards
from clipmill.pipeline.events import ShardDone
from clipmill.pipeline.output import Output
from clipmill.pipeline.records import Shard
from ray.cluster_utils import Cluster

NODE = {"num_cpus": 1, "object_store_memory": 80 << 20}


def main(tars: Path, out: Path, done: Path, told: Path) -> None:
    shards = [Shard(str(tar), tar.stat().st_size) for tar in sorted(tars.glob("*.tar"))]
    Output.at(str(out)).prepare()
    module._GROW = 1.0
    ray.cloudpickle.register_pickle_by_value(fakes)
    ray.cloudpickle.register_pickle_by_value(kit)
    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    try:
        leaving, _ = cluster.add_node(**NODE), cluster.add_node(**NODE)
        cluster.wait_for_nodes()
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        orders = Orders(Limits(), grown=lambda: place(None, 0.0, len(shards)))
        seen: Counter[str] = Counter()
        left = joined = ""
        factory = kit.SlowMills(str(out), done, pause=0.1)
        for event in run_shards(shards, factory, place(None, 0.0, len(shards)), orders):
            seen[type(event).__name__] += 1
            # once it works: midway in the shards that it has
            if isinstance(event, ShardDone) and not left and any(done.glob(f"{leaving.node_id}.*")):
                left = leaving.node_id
                cluster.remove_node(leaving, allow_graceful=False)
                joined = cluster.add_node(**NODE).node_id
        told.write_text(json.dumps({"events": seen, "left": left, "joined": joined}))
    finally:
        ray.shutdown()
        cluster.shutdown()


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
