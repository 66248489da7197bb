"""`embed` without a cluster: the workers that Ray would have work in this process, one shard after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

from clipmill.pipeline.errors import ShardError
from clipmill.pipeline.records import Shard
from clipmill.pipeline.running import embed as module
from clipmill.pipeline.running import precision, staff
from clipmill.pipeline.running.autoscaler import Demand
from clipmill.pipeline.running.events import DoneElsewhere, Event, Rows, ShardDone, ShardFailed, WorkersStarted
from clipmill.pipeline.running.placement import Placement
from clipmill.pipeline.running.sources import ShardSource
from clipmill.pipeline.running.worker import WorkerFactory


def patch(set_: Callable[[Any, str, Any], None], on_shard: Callable[[Shard], None]) -> None:
    """set_: sets an attribute, as monkeypatch does. on_shard: told before each shard is embedded."""

    def run_shards(source: ShardSource, factory: WorkerFactory, *_: object) -> Iterator[Event]:
        worker = factory()
        yield WorkersStarted(1)
        while source.left:
            for shard in source.take():
                on_shard(shard)
                try:
                    stats = worker.embed(shard, lambda *_: None)
                except ShardError as error:
                    yield ShardFailed(shard, str(error))
                else:
                    yield Rows(stats.embedded, stats.failed)
                    yield ShardDone(shard, stats)
            if elsewhere := source.elsewhere():
                yield DoneElsewhere(len(elsewhere))
            time.sleep(0.01)

    set_(module, "run_shards", run_shards)
    set_(module, "connected", lambda _: nullcontext())
    set_(module, "demanded", lambda *_: nullcontext(Demand(lambda _: None)))
    set_(staff, "place", lambda *_: Placement(1, 1, 0.0))
    set_(staff, "room", lambda _: 1)
    set_(precision, "gpus", lambda: 0.0)
    set_(module, "gpu_kinds", set)
