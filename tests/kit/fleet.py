"""A thousand workers in a few processes, as the driver sees a thousand: each call is a call of Ray's, and each answer
is as long as a real worker's. They commit empty parts."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import ray
from clipmill.pipeline.dataset.layout import DATA
from clipmill.pipeline.records import Shard, ShardStats
from clipmill.pipeline.running import worker_handle

_STAGES = ("read", "decode", "engines", "resize", "encode", "write", "commit", "total", "worker", "gpu", "cores")
_WAITS = ("read", "decode", "engines", "encode", "write")
_ROWS = 10_000


def real_stats(shard: Shard, draw: random.Random) -> ShardStats:
    """As long as those of a shard of 10,000 pairs."""

    def times(stages: Sequence[str]) -> dict[str, float]:
        return {stage: draw.random() * 9 for stage in stages}

    failures = Counter({"decode: truncated JPEG": draw.randrange(1, 40), "decode: not an image": draw.randrange(1, 9)})
    return ShardStats(
        shard.url,
        _ROWS,
        _ROWS - failures.total(),
        failures,
        times(_STAGES),
        0,
        times(_WAITS),
        times(_WAITS),
        draw.random() * 1e15,
        989e12,
        Counter({"caption: empty": draw.randrange(1, 9)}),
    )


class _Host:
    """The process in which some of the workers are."""

    def __init__(self, folder: Path, seconds: float) -> None:
        self._folder, self._seconds, self._draw = folder, seconds, random.Random(0)
        self._rows: Counter[int] = Counter()

    async def machine(self, _: int) -> str:
        return str(ray.get_runtime_context().get_node_id())

    async def start(self, _: int) -> float:
        return 0.0

    async def embed(self, worker: int, shard: Shard) -> ShardStats:
        await asyncio.sleep(self._seconds * (0.5 + self._draw.random()))
        (self._folder / DATA / shard.part_name).touch()
        self._rows[worker] += _ROWS
        return real_stats(shard, self._draw)

    async def progress(self, worker: int, pause: float) -> tuple[int, int]:
        await asyncio.sleep(pause)
        return self._rows[worker], 0


class _Method:
    """A host's, for one of its workers."""

    def __init__(self, method: Any, worker: int) -> None:
        self._method, self._worker = method, worker

    def remote(self, *rest: Any) -> Any:
        return self._method.remote(self._worker, *rest)


class _Worker:
    def __init__(self, host: Any, number: int) -> None:
        for name in ("machine", "start", "embed", "progress"):
            setattr(self, name, _Method(getattr(host, name), number))


@contextmanager
def fleet(folder: Path, seconds: float, hosts: int) -> Iterator[None]:
    """Until the end, workers are made in so many processes. seconds: that a shard takes on average."""
    make = ray.remote(_Host).options(num_cpus=0, max_concurrency=10_000)
    running: list[Any] = [make.remote(folder, seconds) for _ in range(hosts)]
    numbers = iter(range(1_000_000))

    def make_actor(*_: Any) -> _Worker:
        number = next(numbers)
        return _Worker(running[number % hosts], number)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker_handle, "_make_actor", make_actor)
        yield
    for host in running:
        ray.kill(host)
