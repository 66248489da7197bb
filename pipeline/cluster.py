"""Spread shards over Ray actors: retries, stragglers, progress. A step cannot tell that it runs here."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError, RayTaskError

from .backlog import Backlog, Limits
from .errors import ClipmillError, InfrastructureError, ShardError, UserError
from .events import (
    Event,
    Rows,
    ShardDone,
    ShardFailed,
    ShardLate,
    ShardRetried,
    Stopping,
    WorkerLost,
    WorkersAdded,
    WorkersStarted,
)
from .placement import Placement, divide
from .records import Shard, ShardStats
from .worker import WorkerFactory

_IN_FLIGHT = 2  # shards an actor: while one ends, the next is read and decoded
_WAIT = 0.3  # seconds
_TELL = 0.5  # seconds between two questions about progress
_GROW = 15.0  # seconds between two looks at what the cluster has
_OBJECT_STORE = 128 << 20  # bytes; shards never pass through it


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
    """`placement.divide` over the nodes that the connected cluster has now."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return divide(nodes, workers, gpus_per_worker, shards)


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


@dataclass(frozen=True)
class Orders:
    """What a run is told besides its shards."""

    limits: Limits = field(default_factory=Limits)
    stop: Callable[[], bool] = lambda: False  # asked often: give out no more, end what is in hand
    grown: Callable[[], Placement | None] = lambda: None  # asked now and then: what the cluster has room for


def run_shards(
    shards: Iterable[Shard], factory: WorkerFactory, placement: Placement, orders: Orders | None = None
) -> Iterator[Event]:
    """Embed every shard, tell of each as it ends. A lost actor is replaced and its shards given out again.

    Raises what a worker could not start for, and InfrastructureError when actors keep dying.
    """
    orders = orders or Orders()
    driver = _Driver(Backlog(shards, orders.limits), factory, placement, orders)
    try:
        yield from driver.run()
    finally:
        driver.stop()


class _Driver:
    def __init__(self, backlog: Backlog, factory: WorkerFactory, placement: Placement, orders: Orders) -> None:
        self._backlog, self._placement, self._orders = backlog, placement, orders
        self._factory = ray.put(factory)
        self._lost = 0  # actors, since a shard was done
        self._told = self._grown = time.monotonic()
        self._stopping = False
        self._hands = [] if backlog.is_empty else [self._new_hand() for _ in range(placement.workers)]

    def run(self) -> Iterator[Event]:
        started = False
        while not self._backlog.is_empty:
            yield from self._see_starts()
            if not started and any(hand.starting is None for hand in self._hands):
                started = True
                yield WorkersStarted(len(self._hands))
            for hand in self._hands:
                yield from self._fill(hand)
            yield from self._collect()
            yield from self._progress()
            yield from self._take_away()
            yield from self._grow()
            yield from self._heed_stop()

    def stop(self) -> None:
        for hand in self._hands:
            with suppress(Exception):
                ray.kill(hand.actor)

    def _new_hand(self) -> _Hand:
        # Ray takes the groups here only, and not among the options
        make: Any = ray.remote  # its types do not know of groups
        remote = make(concurrency_groups={"start": 1, "work": _IN_FLIGHT, "control": 1})
        actor = (
            remote(_Actor)
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
                raise own_error(error) from error
            except RayActorError as error:
                if error.actor_init_failed:  # it has no clipmill, say: no other would fare better
                    raise InfrastructureError(f"a worker cannot be made: {' '.join(str(error).split())}") from error
                yield from self._replace(hand, error)

    def _fill(self, hand: _Hand) -> Iterator[Event]:
        """Give a worker as many shards as it may hold; when none waits, perhaps one that another is late with."""
        now = time.monotonic()
        while hand.starting is None and len(hand.shards) < _IN_FLIGHT:
            shard = self._backlog.peek(now)
            if shard is None:
                break
            if hand.shards and any(map(self._backlog.failed_before, (shard, *hand.shards.values()))):
                return  # what failed before goes alone: if it kills its worker again, no other shard is blamed
            self._give(hand, self._backlog.take(now))
        if hand.starting is None and not hand.shards and (late := self._backlog.late(now)):
            yield ShardLate(late)
            self._give(hand, late)

    def _give(self, hand: _Hand, shard: Shard) -> None:
        hand.shards[hand.actor.embed.remote(shard)] = shard

    def _collect(self) -> Iterator[Event]:
        waiting = [ref for hand in self._hands for ref in hand.shards]
        if not waiting:
            starting = [hand.starting for hand in self._hands if hand.starting is not None]
            if starting:
                ray.wait(starting, timeout=_WAIT)
            else:
                time.sleep(_WAIT / 3)  # until a pause between two attempts is over
            return
        done, _ = ray.wait(waiting, num_returns=len(waiting), timeout=0)
        if not done:
            done, _ = ray.wait(waiting, timeout=_WAIT)
        for ref in done:
            hand = next((hand for hand in self._hands if ref in hand.shards), None)
            if hand is None:  # of an actor replaced meanwhile
                continue
            try:
                stats = ray.get(ref)
            except RayTaskError as error:
                yield from self._failed(hand.shards.pop(ref), own_error(error))
            except RayActorError as error:
                yield from self._replace(hand, error)
            else:
                self._lost = 0  # over weeks on spot machines, many are lost and nothing is wrong
                shard = hand.shards.pop(ref)
                if self._backlog.done(shard, time.monotonic()):
                    yield ShardDone(shard, stats)

    def _failed(self, shard: Shard, error: Exception) -> Iterator[Event]:
        if isinstance(error, UserError):  # the same for every shard
            raise error
        reason = str(error) or type(error).__name__
        if self._backlog.failed(shard, time.monotonic(), final=isinstance(error, ShardError)):
            yield ShardFailed(shard, reason)
        elif not isinstance(error, ShardError):
            yield ShardRetried(shard, reason)

    def _replace(self, hand: _Hand, error: RayActorError) -> Iterator[Event]:
        reason = " ".join(str(error).split())
        self._lost += 1
        if self._lost > 3 * self._placement.workers + 3:
            raise InfrastructureError(f"workers keep dying: {reason}") from error
        yield WorkerLost(reason)
        self._hands[self._hands.index(hand)] = self._new_hand()
        for shard in hand.shards.values():
            if self._backlog.failed(shard, time.monotonic()):
                attempts = self._orders.limits.attempts
                yield ShardFailed(shard, f"its worker died {attempts} times: {reason}")

    def _take_away(self) -> Iterator[Event]:
        """Shards beyond the deadline: their worker hangs, and is replaced."""
        for shard in self._backlog.overdue(time.monotonic()):
            reason = f"not done within the deadline of {self._orders.limits.deadline:g} s"
            given_up = self._backlog.expire(shard, time.monotonic())
            yield ShardFailed(shard, reason) if given_up else ShardRetried(shard, reason)
            for hand in [hand for hand in self._hands if shard in hand.shards.values()]:
                ray.kill(hand.actor)
                self._hands[self._hands.index(hand)] = self._new_hand()
                for other in hand.shards.values():
                    self._backlog.give_back(other)

    def _grow(self) -> Iterator[Event]:
        """More workers where machines have joined the cluster. Those that leave are lost workers."""
        now = time.monotonic()
        if now - self._grown < _GROW or self._stopping:
            return
        self._grown = now
        placement = self._orders.grown()
        more = placement.workers - len(self._hands) if placement else 0
        if more > 0:
            self._hands += [self._new_hand() for _ in range(more)]
            yield WorkersAdded(more)

    def _heed_stop(self) -> Iterator[Event]:
        if not self._stopping and self._orders.stop():
            self._stopping = True
            yield Stopping(self._backlog.close())

    def _progress(self) -> Iterator[Event]:
        """Ask each actor, without waiting for any."""
        if time.monotonic() - self._told < _TELL and not self._backlog.is_empty:
            return
        self._told = time.monotonic()
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


def own_error(error: RayTaskError) -> Exception:
    """What the worker raised. Ours are for people to read; others are failures of the infrastructure."""
    cause = error.cause if isinstance(error.cause, Exception) else None
    if isinstance(cause, ClipmillError):
        return cause
    if cause is None:
        return InfrastructureError(str(error).strip().splitlines()[-1])
    return InfrastructureError(f"{type(cause).__name__}: {' '.join(str(cause).split())}")
