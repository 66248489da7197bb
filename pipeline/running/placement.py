"""A cluster's resources, divided into workers, and into processes that read and decode for them. Pure.

Workers are of equal size, so that any of them fits wherever there is room for one. Where they have GPUs they are small,
and reading processes, each of its machine's own size, fill the rest of every machine (`reading_rooms`).
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ..errors import UserError

READER_CPUS = 4  # of a reading process at most: more threads would wait for one interpreter's lock
_AT_FIRST = 8  # reading processes a worker; more come where they are needed
_OWN = 2  # CPUs of a worker that others read for
_OF_ONE_CORE = 8  # workers on CPUs; where there are more, each gets several cores: a model takes memory
_CORES = 4  # of each of very many workers
_WELL_USED = 0.95  # of the cores; a size of workers that uses as many is not looked for any further
_GROWS = "name --workers and --wait-for-machines SECONDS"

Node = Mapping[str, float]  # resources of one machine: CPU, GPU, …


@dataclass(frozen=True)
class Placement:
    """Workers of equal size, and how many processes read for all of them together."""

    workers: int
    cpus: float  # each
    gpus: float  # each; 0 on a cluster without
    readers: int = 0  # processes that read, at first; without, the workers' own threads do
    fixed: bool = False  # so many readers were asked for: never more
    beside: float = 0.0  # CPUs a worker that workers without a GPU leave to readers

    def room(self, nodes: Iterable[Node]) -> int:
        """Workers of this size that so many machines hold; no worker spans two."""
        return sum(self._fit(node) for node in nodes)

    def _fit(self, node: Node) -> int:
        needed = {name: size for name, size in (("CPU", self.cpus + self.beside), ("GPU", self.gpus)) if size}
        return min(int(node.get(name, 0.0) / size + 1e-9) for name, size in needed.items())

    def left(self, node: Node) -> int:
        """CPUs of a machine that is filled with workers which these leave to reading processes."""
        return max(0, int(node.get("CPU", 0.0) - min(self._fit(node), self.workers) * self.cpus + 1e-9))


def divide(
    nodes: Sequence[Node],
    workers: int | None,
    gpus_per_worker: float | None,
    shards: int,
    decode_workers: int | None = 0,
) -> Placement:
    """One worker a GPU where there are any; else up to eight workers, and beyond that one for four cores.

    decode_workers: reading processes of all workers together. None gives workers with a GPU what CPUs there are, and
    others none. UserError for more than the cluster could ever give.
    """
    placement = _workers(nodes, workers, gpus_per_worker, shards)
    if decode_workers == 0 or (decode_workers is None and not placement.gpus):
        return placement
    return _with_readers(placement, nodes, shards, decode_workers)


@dataclass(frozen=True)
class Seat:
    """Room for a process that reads."""

    machine: str
    cpus: int
    near: bool  # whether there is room for workers, too


def seats(placement: Placement, machines: Mapping[str, Node]) -> list[Seat]:
    """Room for every reading process, by machine: beside workers first, then on each of the other machines in turn."""
    rooms = reading_rooms(placement, list(machines.values()))
    found = [
        (placement.room([node]) == 0, number, Seat(name, cpus, placement.room([node]) > 0))
        for (name, node), room in zip(machines.items(), rooms, strict=True)
        for number, cpus in enumerate(room)
    ]
    return [seat for *_, seat in sorted(found, key=lambda entry: entry[:2])]


def reading_rooms(placement: Placement, nodes: Sequence[Node]) -> list[list[int]]:
    """For each machine, the CPUs of every reading process that has room there beside the workers. As many as were asked
    for, where they were; else processes of up to four CPUs, which take what is left."""
    left = [placement.left(node) for node in nodes]
    if not placement.readers:
        return [[] for _ in nodes]
    counts = _spread(left, placement.readers) if placement.fixed else [-(-cpus // READER_CPUS) for cpus in left]
    return [_sizes(cpus, count) for cpus, count in zip(left, counts, strict=True)]


def _spread(left: Sequence[int], processes: int) -> list[int]:
    """So many processes over machines, so that all have about as many CPUs; fewer where there are not enough."""
    counts = [0] * len(left)
    roomiest = [(-float(cpus), node) for node, cpus in enumerate(left) if cpus]
    heapq.heapify(roomiest)
    for _ in range(min(processes, sum(left))):
        _, node = heapq.heappop(roomiest)
        counts[node] += 1
        if counts[node] < left[node]:
            heapq.heappush(roomiest, (-left[node] / (counts[node] + 1), node))
    return counts


def _sizes(cpus: int, processes: int) -> list[int]:
    if not processes:
        return []
    each, more = divmod(cpus, processes)
    return [min(each + (number < more), READER_CPUS) for number in range(processes)]


def _with_readers(placement: Placement, nodes: Sequence[Node], shards: int, requested: int | None) -> Placement:
    """A worker keeps a few CPUs for itself; on CPUs alone, half of its share."""
    share = _cpus_each(nodes, placement.workers, placement.gpus)
    own = min(_OWN, max(1, share // 2)) if placement.gpus else max(1, share - share // 2)
    beside = 0 if placement.gpus else share - own
    small = Placement(placement.workers, own, placement.gpus, 1, beside=beside)
    room = sum(map(small.left, nodes))
    if requested and requested > room:
        raise UserError(
            f"--decode-workers {requested}: the cluster has CPUs for {room} beside {placement.workers} workers; name "
            "fewer of either"
        )
    if requested:
        return replace(small, readers=requested, fixed=True)
    most = sum(map(len, reading_rooms(small, nodes)))
    in_turn = max(1, -(-shards // placement.workers) - 1)  # a process reads a shard at a time
    first = min(most, placement.workers * min(_AT_FIRST, in_turn))
    return replace(small, readers=first) if first else placement


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
        return _on_gpus(nodes, workers, gpus_per_worker or 1.0, shards)
    return _on_cpus(nodes, workers, shards)


def _on_gpus(nodes: Sequence[Node], workers: int | None, share: float, shards: int) -> Placement:
    if share > max(node.get("GPU", 0.0) for node in nodes) or (share > 1 and share != int(share)):
        raise UserError(
            f"--gpus-per-worker {share:g}: no machine of the cluster has so many; name a whole number, or a share up "
            "to 1"
        )
    most = Placement(0, 1.0, share).room(nodes)
    if not most:
        raise UserError(f"the cluster's machines with GPUs have no CPU for workers; where it grows, {_GROWS}")
    count = min(workers or most, most, max(shards, 1))
    return Placement(count, max(1.0, _cpus_each(nodes, count, share) / 2), share)


def _on_cpus(nodes: Sequence[Node], workers: int | None, shards: int) -> Placement:
    machines = [int(node.get("CPU", 0.0)) for node in nodes]
    cores = sum(machines)
    if not cores:
        raise UserError(f"no machine of the cluster has a whole CPU for a worker; where it grows, {_GROWS}")
    size = _best_size(machines)
    most = workers or max(1, sum(machine // size for machine in machines))
    count = max(1, min(most, max(shards, 1), cores))
    return Placement(count, size if count == most and not workers else _cpus_each(nodes, count, 0.0), 0.0)


def _best_size(machines: Sequence[int]) -> int:
    """Cores of each worker, where all are of one size: about an eighth of a small cluster, four on a large one, and
    such that few are left over on any machine. machines: the cores of each, at least one in all."""
    cores = sum(machines)
    usual = min(_CORES, -(-cores // _OF_ONE_CORE))
    used = {size: sum(machine // size * size for machine in machines) / cores for size in range(1, 2 * usual + 1)}
    fit = [size for size, share in used.items() if share >= _WELL_USED]
    return min(fit, key=lambda size: (abs(size - usual), -size))  # one core always fits


def _cpus_each(nodes: Sequence[Node], workers: int, gpus: float) -> int:
    """The most CPUs that each of so many workers can have. A worker has to fit on one node."""

    largest = int(max((node.get("CPU", 0.0) for node in nodes), default=0.0))
    return next((cpus for cpus in range(largest, 0, -1) if Placement(0, cpus, gpus).room(nodes) >= workers), 1)
