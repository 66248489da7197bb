"""Run as a script: embeds on a Ray cluster of two machines with one core each, and says on how many it had workers.

two_nodes.py INPUT OUT MODEL: URLs of a store that the environment leads to.
"""

from __future__ import annotations

import sys

import ray
from clipmill.pipeline import EmbedJob, embed
from ray.cluster_utils import Cluster

NODE = {"num_cpus": 1, "object_store_memory": 80 << 20}


def main(inputs: str, out: str, model: str) -> None:
    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    try:
        cluster.add_node(**NODE)
        cluster.wait_for_nodes()
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        summary = embed(EmbedJob([inputs], out, model))
        assert summary.complete
        actors = ray._private.state.actors().values()
        print("machines:", len({actor["Address"]["NodeID"] for actor in actors}))
    finally:
        ray.shutdown()
        cluster.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
