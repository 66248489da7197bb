"""The driver's workers without a cluster: a test says which machine leaves, hangs or dies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from clipmill.pipeline.errors import InfrastructureError
from clipmill.pipeline.records import Shard, ShardStats
from clipmill.pipeline.running.worker_handle import StartFailed, WorkerDied
from ray.exceptions import ActorDiedError

NAMES = [*"abcdefghijklmnopqrstuvwxyz", *(f"z{i}" for i in range(999))]


@dataclass(eq=False)
class FakeHandle:
    """On a machine of its own: a, b, and so on, in the order in which they are made."""

    node: str
    shards: dict[Any, Shard] = field(default_factory=dict)
    given: list[Shard] = field(default_factory=list)
    is_ready: bool = True
    start_up: dict[str, float] = field(default_factory=dict)

    refusal: StartFailed | None = None  # instead of a start

    def see_start(self) -> StartFailed | None:
        return self.refusal

    def give(self, shard: Shard) -> None:
        self.shards[object()] = shard
        self.given.append(shard)

    def kill(self) -> list[Shard]:
        shards = list(self.shards.values())
        self.shards.clear()
        return shards


@dataclass
class FakeCluster:
    leaving: dict[str, float] = field(default_factory=dict)  # machine -> seconds
    stuck: set[str] = field(default_factory=set)  # machines whose shards do not end
    dying: set[str] = field(default_factory=set)  # those whose workers die as soon as they have something to do
    failing: set[str] = field(default_factory=set)  # those whose workers fail every shard
    refusing: set[str] = field(default_factory=set)  # handles whose workers cannot start
    same: dict[str, str] = field(default_factory=dict)  # handles that are made on the machine of another one
    handles: dict[str, FakeHandle] = field(default_factory=dict)
    has_room: bool = True  # for new workers

    def handle(self, *_: object) -> FakeHandle:
        name = NAMES[len(self.handles)]
        made = FakeHandle(self.same.get(name, name), is_ready=self.has_room)
        if name in self.refusing:
            made.is_ready, made.refusal = False, StartFailed(InfrastructureError("no GPU driver"))
        self.handles[name] = made
        return made

    def news(self, _: Sequence[FakeHandle]) -> Iterator[tuple[FakeHandle, int, int]]:
        """None of them tells of rows."""
        return iter(())

    def settled(self, handles: Sequence[FakeHandle], _: float) -> Iterator[tuple[FakeHandle, Shard, Any]]:
        """One shard of each worker ends at a time."""
        for handle in [handle for handle in handles if handle.shards and handle.node not in self.stuck]:
            ref = next(iter(handle.shards))
            if handle.node in self.dying:
                yield handle, handle.shards[ref], WorkerDied(ActorDiedError())
            elif handle.node in self.failing:
                yield handle, handle.shards.pop(ref), OSError("CUDA error")
            else:
                shard = handle.shards.pop(ref)
                yield handle, shard, ShardStats(shard.url)
