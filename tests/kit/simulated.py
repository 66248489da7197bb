"""Many machines with some bad GPUs, in simulated time: the driver is the real one, its workers answer by the clock.

A worker lies on a GPU. Who is replaced leaves its GPU to the next one, as on a cluster that is full; the next one is
made where the driver lets it.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Literal

import pytest
from clipmill.pipeline.errors import InfrastructureError
from clipmill.pipeline.records import Shard, ShardStats
from clipmill.pipeline.running import crew, driver
from clipmill.pipeline.running.worker_handle import StartFailed

Kind = Literal[
    "good", "starts", "fails", "hangs", "slow"
]  # cannot start, fails each shard at once, ends none, 20 times

_START, _SHARD, _FAILURE = 40.0, 60.0, 2.0  # seconds
_SLOW = 20
_STEP = 5.0  # seconds that may pass between two looks


@dataclass
class Clock:
    """`time`, as the driver has it."""

    now: float = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@dataclass(eq=False)
class Gpu:
    machine: str
    kind: Kind
    worker: Worker | None = None


@dataclass
class Cluster:
    clock: Clock
    gpus: list[Gpu]
    draw: random.Random
    stats: Callable[[Shard], ShardStats]  # of a shard that is done
    lost: float = 0.0  # seconds of GPUs with shards that were not done there
    used: float = 0.0  # with those that were
    retried: Counter[str] = field(default_factory=Counter)
    free: deque[Gpu] = field(default_factory=deque)
    ends: list[tuple[float, int, Worker, int]] = field(default_factory=list)  # of shards in hand
    count: int = 0
    turned: Callable[[], None] = lambda: None  # told of each turn of the driver's loop

    def __post_init__(self) -> None:
        self.free = deque(self.gpus)

    def worker(self, _factory: object, _placement: object, avoided: Collection[str] = ()) -> Worker:
        made = Worker(self, frozenset(avoided))
        made.settle()
        return made

    def settled(self, _: Sequence[Worker], seconds: float) -> Iterator[tuple[Worker, Shard, Any]]:
        """Time goes on to the end of a shard."""
        self.turned()
        until = self.clock.now + max(seconds, _STEP)
        if self.ends and self.ends[0][0] > until:
            until = min(self.ends[0][0], self.clock.now + 60.0)
        self.clock.now = until
        while self.ends and self.ends[0][0] <= until:
            end, _, worker, ref = heapq.heappop(self.ends)
            if ref not in worker.shards:
                continue
            shard = worker.shards.pop(ref)
            seconds = worker.spent(ref, end)
            if worker.kind == "fails":
                self.lost += seconds
                yield worker, shard, OSError("CUDA error")
            else:
                self.used += seconds
                yield worker, shard, self.stats(shard)

    def news(self, handles: Sequence[Worker]) -> Iterator[tuple[Worker, int, int]]:
        for handle in handles:
            if handle.shards and handle.kind in ("good", "slow"):
                yield handle, 1, 0


@dataclass(eq=False)
class Worker:
    """A handle."""

    cluster: Cluster
    avoided: frozenset[str]
    gpu: Gpu | None = None
    ready_at: float = 0.0
    node: str = ""
    is_ready: bool = False
    dead: bool = False
    busy_until: float = 0.0
    start_up: Mapping[str, float] = field(default_factory=dict)
    shards: dict[int, Shard] = field(default_factory=dict)
    began: dict[int, float] = field(default_factory=dict)

    @property
    def kind(self) -> Kind:
        return self.gpu.kind if self.gpu else "good"

    def settle(self) -> None:
        """Find a GPU."""
        for _ in range(len(self.cluster.free)):
            gpu = self.cluster.free.popleft()
            if gpu.machine not in self.avoided:
                self.gpu, gpu.worker = gpu, self
                self.ready_at = self.cluster.clock.now + _START * (0.5 + self.cluster.draw.random())
                return
            self.cluster.free.append(gpu)

    def see_start(self) -> StartFailed | None:
        if self.gpu is None:
            self.settle()
        if self.gpu is None or self.cluster.clock.now < self.ready_at:
            return None
        self.node = self.gpu.machine
        if self.kind == "starts":
            return StartFailed(InfrastructureError("no GPU driver"))
        self.is_ready = True
        return None

    def give(self, shard: Shard) -> None:
        cluster = self.cluster
        cluster.count += 1
        ref, now = cluster.count, cluster.clock.now
        self.shards[ref], self.began[ref] = shard, max(now, self.busy_until)
        if self.kind == "hangs":
            return
        seconds = {"fails": _FAILURE, "slow": _SLOW * _SHARD}.get(self.kind, _SHARD)
        self.busy_until = self.began[ref] + seconds * (0.8 + 0.4 * cluster.draw.random())
        heapq.heappush(cluster.ends, (self.busy_until, ref, self, ref))

    def spent(self, ref: int, end: float) -> float:
        return end - self.began.pop(ref)

    def kill(self) -> list[Shard]:
        now, shards = self.cluster.clock.now, list(self.shards.values())
        self.cluster.lost += max((now - began for ref, began in self.began.items() if ref in self.shards), default=0.0)
        self.shards.clear()
        if self.gpu is not None:
            self.gpu.worker = None
            self.cluster.free.append(self.gpu)
        return shards


@contextmanager
def simulated(
    kinds: Sequence[Kind], a_machine: int, stats: Callable[[Shard], ShardStats] = lambda shard: ShardStats(shard.url)
) -> Iterator[Cluster]:
    """Until the end, the driver's workers are on these GPUs, so many of them a machine."""
    clock = Clock()
    gpus = [Gpu(f"machine-{number // a_machine}", kind) for number, kind in enumerate(kinds)]
    cluster = Cluster(clock, gpus, random.Random(0), stats)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(driver, "time", SimpleNamespace(monotonic=clock.monotonic, sleep=clock.sleep))
        patch.setattr(driver, "settled", cluster.settled)
        patch.setattr(driver, "news", cluster.news)
        patch.setattr(driver, "send", lambda factory: factory)
        patch.setattr(driver, "leaving", dict)
        patch.setattr(crew, "WorkerHandle", cluster.worker)
        yield cluster
