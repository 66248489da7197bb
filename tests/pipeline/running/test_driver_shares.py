"""Who gets which shard while some workers still start."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from clipmill.pipeline.records import Shard, ShardStats
from clipmill.pipeline.running import crew
from clipmill.pipeline.running import driver as module
from clipmill.pipeline.running.driver import run_shards
from clipmill.pipeline.running.events import ShardDone
from clipmill.pipeline.running.placement import Placement


class Slow:
    """A worker: the first is there at once, the second when a shard is done."""

    node = "a"

    def __init__(self, ready: bool) -> None:
        self.is_ready = ready
        self.start_up: dict[str, float] = {}
        self.shards: dict[Any, Shard] = {}
        self.most = 0  # that it had in work

    def see_start(self) -> None:
        return None

    def give(self, shard: Shard) -> None:
        self.shards[object()] = shard
        self.most = max(self.most, len(self.shards))

    def kill(self) -> list[Shard]:
        return list(self.shards.values())


@pytest.mark.parametrize(("shards", "most"), [(1, 1), (2, 1), (3, 2), (12, 2)])
def test_one_that_still_starts_finds_a_shard_of_its_own(
    shards: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    handles: list[Slow] = []

    def handle(*_: object) -> Slow:
        handles.append(Slow(ready=not handles))
        return handles[-1]

    def settled(busy: Sequence[Slow], _: float) -> Iterator[tuple[Slow, Shard, ShardStats]]:
        for each in [each for each in busy if each.shards]:
            shard = each.shards.pop(next(iter(each.shards)))
            yield each, shard, ShardStats(shard.url)
        handles[-1].is_ready = True

    monkeypatch.setattr(crew, "WorkerHandle", handle)
    monkeypatch.setattr(module, "settled", settled)
    monkeypatch.setattr(module, "news", lambda _: ())
    monkeypatch.setattr(module, "send", lambda factory: factory)
    monkeypatch.setattr(module, "leaving", dict)
    events = list(run_shards([Shard(f"/{i}.tar") for i in range(shards)], object, Placement(2, 1, 0.0)))  # type: ignore[arg-type]
    assert sum(isinstance(event, ShardDone) for event in events) == shards
    assert handles[0].most == most
