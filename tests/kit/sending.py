"""Run as a script: a model's weights on their way to nodes of a Ray cluster that see none of the driver's files.

sending.py SPEC FOLDER TOLD: the model, a folder for the nodes' caches, and a file that gets as JSON what each of two
workers a node found.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from clipmill.clipmodel import weights
from clipmill.pipeline.embedding.model_files import ModelFiles, find_model
from clipmill.pipeline.embedding.settings import DatasetSettings
from clipmill.pipeline.running import broadcast
from ray.cluster_utils import Cluster

NODES = 2


def load(files: ModelFiles, end: float) -> dict[str, Any]:
    """What a worker does when it starts. All begin together."""
    time.sleep(max(0.0, end - time.time()))
    resolved = files.here()
    (path,) = resolved.files
    sha256 = weights.sha256_of_tensors(weights.read(resolved).model.state_dict())
    return {"path": str(path), "made": path.stat().st_mtime_ns, "sha256": sha256}


def settings_of(files: ModelFiles) -> Any:
    """A DatasetSettings of which only the models matter here."""
    return DatasetSettings(((files, weights.describe(files.resolved)),), "fp32", None, {})  # type: ignore[arg-type]


def main(spec: str, folder: Path, told: Path) -> None:
    broadcast._PIECE = 1 << 20  # of the 7 MB, several
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        files = find_model(spec)
        alone = broadcast.with_weights(settings_of(files), is_growing=False).models[0][0].copies is None
        for number in range(NODES):
            cache = {"CLIPMILL_CACHE": str(folder / str(number))}
            cluster.add_node(num_cpus=2, resources={f"node{number}": 2}, env_vars=cache, object_store_memory=80 << 20)
        cluster.wait_for_nodes()
        sent = broadcast.with_weights(settings_of(files), is_growing=False).models[0][0]
        assert sent == replace(files, copies=sent.copies)
        expected = weights.sha256_of_tensors(weights.read(files.resolved).model.state_dict())
        for path in files.resolved.files:  # as if the other machines had disks of their own
            path.unlink()
        task: Any = ray.remote(load)
        end = time.time() + 5
        loading = [
            task.options(resources={f"node{number}": 1}).remote(sent, end) for number in range(NODES) for _ in range(2)
        ]
        found = {"alone": alone, "expected": expected, "workers": ray.get(loading)}
        told.write_text(json.dumps(found))
    finally:
        ray.shutdown()
        cluster.shutdown()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
