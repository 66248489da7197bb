"""Spread shards over Ray actors: placement, retries, progress. A step cannot tell that it runs here."""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError, RayTaskError

from .errors import ClipmillError, InfrastructureError, ShardError, UserError
from .records import Shard, ShardStats
from .worker import WorkerFactory

_IN_FLIGHT = 2  # shards an actor: while one ends, the next is read and decoded
_ATTEMPTS = 3  # a shard
_POLL = 0.3  # seconds
_OBJECT_STORE = 128 << 20  # bytes; shards never pass through it


@dataclass(frozen=True)
class Placement:
    """What the cluster has, divided into workers."""

    workers: int
    cpus: float  # each
    gpus: float  # each; 0 on a cluster without


@dataclass(frozen=True)
class WorkersStarted:
    workers: int


@dataclass(frozen=True)
class WorkerLost:
    reason: str


@dataclass(frozen=True)
class Rows:
    """Progress since the last event of this kind; rows of a shard that is tried again are counted again."""

    embedded: int
    failed: int


@dataclass(frozen=True)
class ShardDone:
    shard: Shard
    stats: ShardStats


@dataclass(frozen=True)
class ShardFailed:
    shard: Shard
    reason: str


Event = WorkersStarted | WorkerLost | Rows | ShardDone | ShardFailed


@contextmanager
def connected(address: str = "auto") -> Generator[None, None, None]:
    """A Ray cluster: `local` starts one on this machine, `auto` joins one where RAY_ADDRESS names it and else starts
    one, anything else is joined. One that was connected before is used, and left as it is."""
    if ray.is_initialized():
        yield
        return
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": False}
    local = address == "local" or (address == "auto" and not os.environ.get("RAY_ADDRESS"))
    if local:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # leave CUDA_VISIBLE_DEVICES alone
        options |= {"address": "local", "include_dashboard": False, "object_store_memory": _OBJECT_STORE}
    else:
        options["address"] = address
    logging.getLogger("ray").setLevel(logging.ERROR)  # or it announces its authentication, once a run
    try:
        ray.init(**options)
    except Exception as error:  # Ray raises many kinds, and Exception itself when its processes are slow to start
        what = "a Ray cluster on this machine did not start" if local else f"no Ray cluster answers at {address}"
        raise InfrastructureError(f"{what}: {' '.join(str(error).split())}") from error
    try:
        yield
    finally:
        ray.shutdown()


def gpus() -> float:
    """How many the connected cluster has."""
    return float(ray.cluster_resources().get("GPU", 0.0))


def place(workers: int | None, gpus_per_worker: float | None, shards: int) -> Placement:
    """One worker a GPU where there are any; else workers of one core each on small machines, of four on large ones.

    UserError when more is asked for than the cluster could ever give.
    """
    cpus, accelerators = float(ray.cluster_resources().get("CPU", 0.0)), gpus()
    if gpus_per_worker and not accelerators:
        raise UserError(f"--gpus-per-worker {gpus_per_worker:g}: this cluster has no GPU; leave the option out")
    if accelerators and gpus_per_worker != 0:
        each = gpus_per_worker or 1.0
        most = max(1, int(accelerators / each))
        count = min(workers or most, most, max(shards, 1))
        return Placement(count, max(1.0, _cpus_each(count, each) / 2), each)
    cores = max(1, int(cpus))
    most = workers or (cores if cores <= 8 else cores // 4)
    count = max(1, min(most, max(shards, 1), cores))
    return Placement(count, _cpus_each(count, 0.0), 0.0)


def _cpus_each(workers: int, gpus: float) -> int:
    """The most CPUs that each of so many workers can have. A worker has to fit on one node."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]

    def room(cpus: int) -> int:
        """Workers for which there is."""
        fit = [(int(node.get("CPU", 0) / cpus), int(node.get("GPU", 0) / gpus) if gpus else workers) for node in nodes]
        return sum(min(each) for each in fit)

    largest = int(max((node.get("CPU", 0.0) for node in nodes), default=0.0))
    return next((cpus for cpus in range(largest, 0, -1) if room(cpus) >= workers), 1)


class _Actor:
    """Holds a worker; two shards at a time, and progress beside them."""

    def __init__(self, factory: WorkerFactory) -> None:
        self._factory = factory
        self._rows = [0, 0]

    @ray.method(concurrency_group="control")
    def progress(self) -> tuple[int, int]:
        return self._rows[0], self._rows[1]

    @ray.method(concurrency_group="start")
    def start(self) -> None:
        """Apart from `__init__`, so that its errors reach the driver as they are."""
        self._worker = self._factory()

    @ray.method(concurrency_group="work")
    def embed(self, shard: Shard) -> ShardStats:
        return self._worker.embed(shard, self._add)

    def _add(self, embedded: int, failed: int) -> None:
        self._rows[0] += embedded
        self._rows[1] += failed


@dataclass
class _Hand:
    """An actor as the driver sees it."""

    actor: Any
    starting: Any  # the reference of `start`, None once it returned
    seen: tuple[int, int] = (0, 0)
    asked: Any = None  # the reference of `progress` under way
    shards: dict[Any, Shard] = field(default_factory=dict)  # in flight, by reference


def run_shards(shards: Iterable[Shard], factory: WorkerFactory, placement: Placement) -> Iterator[Event]:
    """Embed every shard, tell of each as it ends. A lost actor is replaced and its shards given out again.

    Raises what a worker could not start for, and InfrastructureError when actors keep dying.
    """
    driver = _Driver(deque(shards), factory, placement)
    try:
        yield from driver.run()
    finally:
        driver.stop()


class _Driver:
    def __init__(self, todo: deque[Shard], factory: WorkerFactory, placement: Placement) -> None:
        self._todo, self._placement = todo, placement
        self._factory = ray.put(factory)
        self._attempts: dict[str, int] = {}
        self._lost = 0  # actors, since a shard was done
        self._hands = [self._new_hand() for _ in range(placement.workers)]

    def run(self) -> Iterator[Event]:
        started = False
        while self._todo or any(hand.shards for hand in self._hands):
            yield from self._see_starts()
            if not started and any(hand.starting is None for hand in self._hands):
                started = True
                yield WorkersStarted(len(self._hands))
            for hand in self._hands:
                self._fill(hand)
            yield from self._collect()
            yield from self._progress()

    def stop(self) -> None:
        for hand in self._hands:
            with suppress(Exception):
                ray.kill(hand.actor)

    def _new_hand(self) -> _Hand:
        remote: Any = ray.remote  # takes the groups, which `options` does not, and its types do not know
        actor = (
            remote(concurrency_groups={"start": 1, "work": _IN_FLIGHT, "control": 1})(_Actor)
            .options(
                num_cpus=self._placement.cpus,
                num_gpus=self._placement.gpus,
                max_restarts=0,  # retries are ours: Ray would restart for ever what cannot start
                max_task_retries=0,
            )
            .remote(self._factory)
        )
        return _Hand(actor, actor.start.remote())

    def _see_starts(self) -> Iterator[Event]:
        for hand in self._hands:
            if hand.starting is None or not ray.wait([hand.starting], timeout=0)[0]:
                continue
            try:
                ray.get(hand.starting)
                hand.starting = None
            except RayTaskError as error:
                raise _own(error) from error
            except RayActorError as error:
                if error.actor_init_failed:  # it has no clipmill, say: no other would fare better
                    raise InfrastructureError(f"a worker cannot be made: {' '.join(str(error).split())}") from error
                yield from self._replace(hand, error)

    def _fill(self, hand: _Hand) -> None:
        while self._todo and hand.starting is None and len(hand.shards) < _IN_FLIGHT:
            if hand.shards and any(self._attempts.get(s.url) for s in (self._todo[0], *hand.shards.values())):
                return  # what failed before goes alone: if it kills its worker again, no other shard is blamed
            shard = self._todo.popleft()
            hand.shards[hand.actor.embed.remote(shard)] = shard

    def _collect(self) -> Iterator[Event]:
        waiting = [ref for hand in self._hands for ref in hand.shards]
        if not waiting:
            starting = [hand.starting for hand in self._hands if hand.starting is not None]
            if starting:
                ray.wait(starting, timeout=_POLL)
            return
        done, _ = ray.wait(waiting, num_returns=len(waiting), timeout=0)
        if not done:
            done, _ = ray.wait(waiting, timeout=_POLL)
        for ref in done:
            hand = next((hand for hand in self._hands if ref in hand.shards), None)
            if hand is None:  # of an actor replaced meanwhile
                continue
            try:
                stats = ray.get(ref)
            except RayTaskError as error:
                yield from self._failed(hand.shards.pop(ref), _own(error))
            except RayActorError as error:
                yield from self._replace(hand, error)
            else:
                self._lost = 0  # over weeks on spot machines, many are lost and nothing is wrong
                yield ShardDone(hand.shards.pop(ref), stats)

    def _failed(self, shard: Shard, error: Exception) -> Iterator[Event]:
        if isinstance(error, UserError):  # the same for every shard
            raise error
        if isinstance(error, ShardError) or not self._again(shard):
            yield ShardFailed(shard, str(error) or type(error).__name__)

    def _again(self, shard: Shard) -> bool:
        """Whether the shard may have another try; it then goes to the end of the queue."""
        self._attempts[shard.url] = self._attempts.get(shard.url, 0) + 1
        if self._attempts[shard.url] >= _ATTEMPTS:
            return False
        self._todo.append(shard)
        return True

    def _replace(self, hand: _Hand, error: RayActorError) -> Iterator[Event]:
        reason = " ".join(str(error).split())
        self._lost += 1
        if self._lost > 3 * self._placement.workers + 3:
            raise InfrastructureError(f"workers keep dying: {reason}") from error
        yield WorkerLost(reason)
        self._hands[self._hands.index(hand)] = self._new_hand()
        for shard in hand.shards.values():
            if not self._again(shard):
                yield ShardFailed(shard, f"its worker died {_ATTEMPTS} times: {reason}")

    def _progress(self) -> Iterator[Event]:
        """Ask each actor, without waiting for any."""
        embedded = failed = 0
        for hand in self._hands:
            if hand.starting is not None:
                continue
            if hand.asked is None:
                hand.asked = hand.actor.progress.remote()
            with suppress(RayError, GetTimeoutError):
                if ray.wait([hand.asked], timeout=0)[0]:
                    asked, hand.asked = hand.asked, None
                    now = ray.get(asked)
                    embedded += now[0] - hand.seen[0]
                    failed += now[1] - hand.seen[1]
                    hand.seen = now
        if embedded or failed:
            yield Rows(embedded, failed)


def _own(error: RayTaskError) -> Exception:
    """What the worker raised. Ours are for people to read; others are failures of the infrastructure."""
    cause = error.cause if isinstance(error.cause, Exception) else None
    if isinstance(cause, ClipmillError):
        return cause
    if cause is None:
        return InfrastructureError(str(error).strip().splitlines()[-1])
    return InfrastructureError(f"{type(cause).__name__}: {' '.join(str(cause).split())}")
