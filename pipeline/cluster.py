"""Ray: the cluster, what it has, and workers in processes of their own on its machines. Nothing else knows of Ray."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import ray
from ray.autoscaler.sdk import request_resources
from ray.exceptions import RayActorError, RayError, RayTaskError

from .errors import ClipmillError, InfrastructureError, ShardError
from .records import Shard, ShardStats
from .running.address import check_address
from .running.bugs import bug
from .running.placement import Placement, divide

if TYPE_CHECKING:  # torch takes a second: not before what is missing is refused
    from .running.worker import WorkerFactory

_OBJECT_STORE = 128 << 20  # bytes for every four CPUs: pixels pass through it where processes of their own decode


@contextmanager
def connected(address: str = "auto") -> Generator[None, None, None]:
    """A Ray cluster: `local` starts one on this machine, `auto` joins one where RAY_ADDRESS names it and else starts
    one, anything else is joined. One that was connected before is used, and left as it is."""
    if ray.is_initialized():
        yield
        return
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": False}
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS") or "local"
    local = address == "local"
    if local:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # glibc gives each of many threads a pool, and what one frees no other uses: a third of a worker's memory
        os.environ.setdefault("MALLOC_ARENA_MAX", "2")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # leave CUDA_VISIBLE_DEVICES alone
        options |= {
            "include_dashboard": False,
            "object_store_memory": _OBJECT_STORE * max(1, (os.cpu_count() or 1) // 4),
        }
    else:
        check_address(address)
    logging.getLogger("ray").setLevel(logging.ERROR)  # or it announces its authentication, once a run
    try:
        ray.init(address, **options)
    except Exception as error:  # Ray raises many kinds, and Exception itself when its processes are slow to start
        what = "a Ray cluster on this machine did not start" if local else f"no Ray cluster answers at {address}"
        raise InfrastructureError(f"{what}: {_line(error)}") from error
    try:
        yield
    finally:
        ray.shutdown()


def gpus() -> float:
    """How many the connected cluster has."""
    return float(ray.cluster_resources().get("GPU", 0.0))


def place(workers: int | None, gpus_per_worker: float | None, shards: int, decode_workers: int | None = 0) -> Placement:
    """`placement.divide` over the machines that the connected cluster has now, and keeps."""
    return divide(_nodes(), workers, gpus_per_worker, shards, decode_workers)


def room(placement: Placement) -> int:
    """Workers of this size that these machines hold."""
    return placement.room(_nodes())


def _nodes() -> list[dict[str, float]]:
    going = leaving()
    return [node["Resources"] for node in ray.nodes() if node["Alive"] and node["NodeID"] not in going]


@contextmanager
def asked_for(workers: int | None, gpus_per_worker: float | None) -> Generator[None, None, None]:
    """Ask the cluster's autoscaler, where it has one, for room for so many workers, until the context is left. It sees
    by itself only what waits for a place, and workers are made for places that are there."""
    if not workers:
        yield
        return
    each = {"GPU": gpus_per_worker} if gpus_per_worker else {"CPU": 1.0}
    request_resources(bundles=[each] * workers)
    try:
        yield
    finally:
        with suppress(Exception):
            request_resources(bundles=[])


def leaving() -> dict[str, float]:
    """Machines that Ray drains (a spot machine's notice, a pod's end, the autoscaler) -> seconds that they still have,
    infinite where no deadline was set."""
    deadlines: dict[str, int] = {}
    with suppress(Exception):  # no public API tells, this is what Ray Train asks; then they are just lost later
        deadlines = ray._private.state.state.get_draining_nodes()
    now = time.time()
    return {node: ms / 1000 - now if ms else float("inf") for node, ms in deadlines.items()}


# --- workers ---------------------------------------------------------------------------------------------------------


class _Actor:
    """Holds a worker; a few shards at a time, and progress beside them."""

    def __init__(self, factory: WorkerFactory) -> None:
        self._factory = factory
        self._rows = [0, 0]

    @ray.method(concurrency_group="control")
    def progress(self) -> tuple[int, int]:
        return self._rows[0], self._rows[1]

    @ray.method(concurrency_group="start")
    def start(self) -> str:
        """The machine it is on. Apart from `__init__`, so that its errors reach the driver as they are."""
        self._worker = self._factory()
        return str(ray.get_runtime_context().get_node_id())

    @ray.method(concurrency_group="work")
    def embed(self, shard: Shard) -> ShardStats:
        try:
            return self._worker.embed(shard, self._add)
        except Exception as error:
            if found := bug(error):  # no second try would do better
                raise ShardError(f"{shard.url}: {found}") from error
            raise

    def _add(self, embedded: int, failed: int) -> None:
        self._rows[0] += embedded
        self._rows[1] += failed


class WorkerDied(InfrastructureError):
    """A worker's process has ended, or its machine. `preempted`: Ray knows that the machine was taken away."""

    def __init__(self, error: RayActorError) -> None:
        super().__init__(_line(error))
        self.preempted = error.preempted


class Hand:
    """A worker as the driver sees it."""

    def __init__(self, factory: Any, placement: Placement) -> None:
        """factory: a reference to the WorkerFactory."""
        # Ray takes the groups here only, and not among the options
        make: Any = ray.remote  # its types do not know of groups
        remote = make(concurrency_groups={"start": 1, "work": placement.in_flight, "control": 1})
        self._actor = (
            remote(_Actor)
            .options(
                num_cpus=placement.cpus,
                num_gpus=placement.gpus,
                max_restarts=0,  # retries are ours: Ray would restart for ever what cannot start
                max_task_retries=0,
            )
            .remote(factory)
        )
        self.starting: Any = self._actor.start.remote()  # None once it has started
        self.node = ""  # that it is on, known then
        self.shards: dict[Any, Shard] = {}  # in hand, by the references of their results
        self._rows = (0, 0)
        self._asked: Any = None

    @property
    def is_ready(self) -> bool:
        return self.starting is None

    def see_start(self) -> WorkerDied | None:
        """Note whether it has started by now. Raises what the worker could not start for, and InfrastructureError
        where none can be made."""
        if self.is_ready or not ray.wait([self.starting], timeout=0)[0]:
            return None
        try:
            self.node, self.starting = ray.get(self.starting), None
        except RayTaskError as error:
            raise own_error(error) from error
        except RayActorError as error:
            if error.actor_init_failed:  # it has no clipmill, say: no other would fare better
                raise InfrastructureError(f"a worker cannot be made: {_line(error)}") from error
            return WorkerDied(error)
        return None

    def give(self, shard: Shard) -> None:
        self.shards[self._actor.embed.remote(shard)] = shard

    def new_rows(self) -> tuple[int, int]:
        """Embedded and failed ones since it last told; it is asked here, and not waited for."""
        if not self.is_ready:
            return 0, 0
        if self._asked is None:
            self._asked = self._actor.progress.remote()
        if not ray.wait([self._asked], timeout=0)[0]:
            return 0, 0
        asked, self._asked, before = self._asked, None, self._rows
        with suppress(RayError):
            self._rows = ray.get(asked)
        return self._rows[0] - before[0], self._rows[1] - before[1]

    def kill(self) -> list[Shard]:
        """End its process; the shards that it had in hand."""
        with suppress(Exception):
            ray.kill(self._actor)
        shards = list(self.shards.values())
        self.shards.clear()
        return shards


def send(factory: WorkerFactory) -> Any:
    """Put it where all workers find it."""
    return ray.put(factory)


def settled(hands: Sequence[Hand], seconds: float) -> Iterator[tuple[Hand, Shard, ShardStats | Exception]]:
    """What became of shards in hand; waits so long for the first of them to end. After WorkerDied, the hand still
    holds all that it had."""
    out = {ref: hand for hand in hands for ref in hand.shards}
    if not out:
        starting = [hand.starting for hand in hands if not hand.is_ready]
        if starting:
            ray.wait(starting, timeout=seconds)
        else:
            time.sleep(seconds / 3)  # until a pause between two attempts is over
        return
    waiting = list(out)
    done, _ = ray.wait(waiting, num_returns=len(waiting), timeout=0)
    if not done:
        done, _ = ray.wait(waiting, timeout=seconds)
    for ref in done:
        hand = out[ref]
        if ref not in hand.shards:  # its worker was replaced meanwhile
            continue
        try:
            stats = ray.get(ref)
        except RayTaskError as error:
            yield hand, hand.shards.pop(ref), own_error(error)
        except RayActorError as error:
            yield hand, hand.shards[ref], WorkerDied(error)
        else:
            yield hand, hand.shards.pop(ref), stats


def own_error(error: RayTaskError) -> Exception:
    """What the worker raised. Ours are for people to read; others are failures of the infrastructure."""
    cause = error.cause if isinstance(error.cause, Exception) else None
    if isinstance(cause, ClipmillError):
        return cause
    if cause is None:
        return InfrastructureError(str(error).strip().splitlines()[-1])
    return InfrastructureError(f"{type(cause).__name__}: {_line(cause)}")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
