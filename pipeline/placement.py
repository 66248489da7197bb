"""A cluster's resources, divided into workers. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .errors import UserError

_GROWS = "name --workers and --wait-for-machines SECONDS"

Node = Mapping[str, float]  # resources of one machine: CPU, GPU, …


@dataclass(frozen=True)
class Placement:
    """Workers of equal size."""

    workers: int
    cpus: float  # each
    gpus: float  # each; 0 on a cluster without


def divide(nodes: Sequence[Node], workers: int | None, gpus_per_worker: float | None, shards: int) -> Placement:
    """One worker a GPU where there are any; else workers of one core each on small machines, of four on large ones.

    UserError when more is asked for than the cluster could ever give.
    """
    cpus, gpus = (sum(node.get(what, 0.0) for node in nodes) for what in ("CPU", "GPU"))
    if not cpus and not gpus:
        raise UserError(f"this cluster has no machine for workers now; where it grows, {_GROWS}")
    if gpus_per_worker and not gpus:
        raise UserError(
            f"--gpus-per-worker {gpus_per_worker:g}: this cluster has no GPU now; leave the option out, or where it "
            f"grows, {_GROWS}"
        )
    if gpus and gpus_per_worker != 0:
        each = gpus_per_worker or 1.0
        if each > max(node.get("GPU", 0.0) for node in nodes) or (each > 1 and each != int(each)):
            raise UserError(f"--gpus-per-worker {each:g}: no machine of this cluster has them; shares must be up to 1")
        most = max(1, int(gpus / each))
        count = min(workers or most, most, max(shards, 1))
        return Placement(count, max(1.0, _cpus_each(nodes, count, each) / 2), each)
    cores = max(1, int(cpus))
    most = workers or (cores if cores <= 8 else cores // 4)
    count = max(1, min(most, max(shards, 1), cores))
    return Placement(count, _cpus_each(nodes, count, 0.0), 0.0)


def _cpus_each(nodes: Sequence[Node], workers: int, gpus: float) -> int:
    """The most CPUs that each of so many workers can have. A worker has to fit on one node."""

    def room(cpus: int) -> int:
        """Workers for which there is."""
        fit = [(int(node.get("CPU", 0) / cpus), int(node.get("GPU", 0) / gpus) if gpus else workers) for node in nodes]
        return sum(min(each) for each in fit)

    largest = int(max((node.get("CPU", 0.0) for node in nodes), default=0.0))
    return next((cpus for cpus in range(largest, 0, -1) if room(cpus) >= workers), 1)
