"""A cluster's resources, divided into workers. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ..errors import UserError

_DECODER_CPUS = 4  # more threads would wait for one interpreter's lock
_MOST_DECODERS = 8  # a worker, where nobody asks for more: about what the fastest encoders eat
_OF_ONE_CORE = 8  # workers on CPUs; where there are more, each gets several cores: a model takes memory
_CORES = 4  # of each of very many workers
_GROWS = "name --workers and --wait-for-machines SECONDS"

Node = Mapping[str, float]  # resources of one machine: CPU, GPU, …


@dataclass(frozen=True)
class Placement:
    """Workers of equal size."""

    workers: int
    cpus: float  # each
    gpus: float  # each; 0 on a cluster without
    decoders: int = 0  # processes that decode for each; without, its own threads do
    decoder_cpus: float = 0.0  # of each such process

    @property
    def in_flight(self) -> int:
        """Shards a worker: while one ends, the next is read and decoded."""
        return max(1, self.decoders) + 1

    def room(self, nodes: Iterable[Node]) -> int:
        """Workers of this size that so many machines hold; no worker spans two. Processes that decode for a worker with
        a GPU are wherever there are CPUs."""
        cpus = self.cpus + (0.0 if self.gpus else self.decoders * self.decoder_cpus)
        needed = {name: size for name, size in (("CPU", cpus), ("GPU", self.gpus)) if size}
        return sum(min(int(node.get(name, 0.0) / size + 1e-9) for name, size in needed.items()) for node in nodes)


def divide(
    nodes: Sequence[Node],
    workers: int | None,
    gpus_per_worker: float | None,
    shards: int,
    decode_workers: int | None = 0,
) -> Placement:
    """One worker a GPU where there are any; else up to eight workers, and beyond that one for four cores.

    decode_workers: of all workers together. None gives workers with a GPU all CPUs, and others none. UserError for more
    than the cluster could ever give.
    """
    placement = _workers(nodes, workers, gpus_per_worker, shards)
    if decode_workers == 0 or (decode_workers is None and not placement.gpus):
        return placement
    return _with_decoders(placement, nodes, shards, decode_workers)


def _with_decoders(placement: Placement, nodes: Sequence[Node], shards: int, requested: int | None) -> Placement:
    """A worker's share of its machine's CPUs, divided between itself and processes that decode for it. Machines without
    a GPU, where others have some, decode too."""
    share = _cpus_each(nodes, placement.workers, placement.gpus)
    own = min(2, max(1, share // 2)) if placement.gpus else max(1, share - share // 2)
    wanted = -(-requested // placement.workers) if requested else -(-(share - own) // _DECODER_CPUS)
    cpus = min(_DECODER_CPUS, max(1, (share - own) // max(1, wanted)))
    elsewhere = [int(node.get("CPU", 0.0)) // cpus for node in nodes if placement.gpus and not node.get("GPU")]
    room = (share - own) // cpus + sum(elsewhere) // placement.workers
    if requested and wanted > room:
        raise UserError(
            f"--decode-workers {requested}: the cluster has CPUs for {room * placement.workers} beside "
            f"{placement.workers} workers; name fewer of either"
        )
    in_turn = max(1, -(-shards // placement.workers) - 1)  # one decodes a shard at a time
    decoders = wanted if requested else min(room, _MOST_DECODERS, in_turn)
    return replace(placement, cpus=own, decoders=decoders, decoder_cpus=cpus) if decoders else placement


def _workers(nodes: Sequence[Node], workers: int | None, gpus_per_worker: float | None, shards: int) -> Placement:
    cpus, gpus = (sum(node.get(what, 0.0) for node in nodes) for what in ("CPU", "GPU"))
    if not cpus and not gpus:
        raise UserError(f"the cluster has no machine for workers now; where it grows, {_GROWS}")
    if gpus_per_worker and not gpus:
        raise UserError(
            f"--gpus-per-worker {gpus_per_worker:g}: the cluster has no GPU now; leave the option out, or where it "
            f"grows, {_GROWS}"
        )
    if gpus and gpus_per_worker != 0:
        share = gpus_per_worker or 1.0
        if share > max(node.get("GPU", 0.0) for node in nodes) or (share > 1 and share != int(share)):
            raise UserError(
                f"--gpus-per-worker {share:g}: no machine of the cluster has so many; name a whole number, "
                "or a share up to 1"
            )
        most = Placement(0, 1.0, share).room(nodes)
        if not most:
            raise UserError(f"the cluster's machines with GPUs have no CPU for workers; where it grows, {_GROWS}")
        count = min(workers or most, most, max(shards, 1))
        return Placement(count, max(1.0, _cpus_each(nodes, count, share) / 2), share)
    cores = max(1, int(cpus))
    most = workers or max(min(cores, _OF_ONE_CORE), cores // _CORES)
    count = max(1, min(most, max(shards, 1), cores))
    return Placement(count, _cpus_each(nodes, count, 0.0), 0.0)


def _cpus_each(nodes: Sequence[Node], workers: int, gpus: float) -> int:
    """The most CPUs that each of so many workers can have. A worker has to fit on one node."""

    largest = int(max((node.get("CPU", 0.0) for node in nodes), default=0.0))
    return next((cpus for cpus in range(largest, 0, -1) if Placement(0, cpus, gpus).room(nodes) >= workers), 1)
