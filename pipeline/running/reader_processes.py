"""Decoding in processes of their own, on any machine of the cluster.

One interpreter cannot feed a GPU: a tenth of what decoding takes holds its lock. Each process reads and decodes whole
shards; pixels come back through Ray's object store, written there once, and on the same machine read where they lie.
"""

from __future__ import annotations

import queue
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError

from ..dataset.part import PartLayout
from ..embedding.chunk import Chunk
from ..embedding.clock import Clock
from ..embedding.shard_reader import InputOptions, ThreadedReader
from ..embedding.together import Decoders
from ..errors import InfrastructureError, one_line
from ..records import Shard, Times
from ..storage.ahead import Waits, ahead
from ..storage.pace import settle

_PATIENCE = 600.0  # seconds until a process has found room; machines may have to be started first
CHUNKS_ON_THE_WAY = 3  # chunks of a shard in the object store: beyond them its process waits


class _Actor:
    """Decodes one shard at a time."""

    def __init__(self, decoders: Decoders, layout: PartLayout, threads: int, inputs: InputOptions) -> None:
        settle(inputs.share)
        self._reader = ThreadedReader(decoders, layout, ThreadPoolExecutor(threads), inputs)

    def started(self) -> None: ...

    def decoded(self, shard: Shard) -> Iterator[Chunk | Times]:
        """Its chunks, and where the time went."""
        clock = Clock()
        with self._reader.decoded(shard, clock) as chunks:
            yield from chunks
        yield clock.times()


@dataclass(frozen=True)
class ProcessReader:
    """A `ShardReader` that owns some processes, which end with the worker. A process that dies is replaced; its shard
    fails as it does when storage fails, and is tried again."""

    decoders: Decoders
    layout: PartLayout
    processes: int
    cpus: float  # each
    inputs: InputOptions = field(default_factory=InputOptions)
    _free: queue.SimpleQueue[Any] = field(default_factory=queue.SimpleQueue)

    def __post_init__(self) -> None:
        for _ in range(self.processes):
            self._free.put(self._start())

    @contextmanager
    def decoded(self, shard: Shard, clock: Clock) -> Generator[Iterable[Chunk], None, None]:
        after = "engines" if self.decoders.leave_jpegs else "encode"
        waits = Waits(for_items=clock.between("decode", after).for_items)  # the process tells of its own
        with ahead(self._stream(shard, clock), 1, waits) as rows:
            yield rows

    def _start(self) -> Any:
        remote: Any = ray.remote(_Actor)
        options = {"num_cpus": self.cpus, "max_restarts": 0, "max_task_retries": 0}
        return remote.options(**options).remote(self.decoders, self.layout, max(1, int(self.cpus)), self.inputs)

    def _stream(self, shard: Shard, clock: Clock) -> Iterator[Chunk]:
        actor = self._free.get()
        options = {"num_returns": "streaming", "_generator_backpressure_num_objects": CHUNKS_ON_THE_WAY}
        started = actor.started.remote()
        stream = actor.decoded.options(**options).remote(shard)
        try:
            if not ray.wait([started], timeout=_PATIENCE)[0]:
                raise InfrastructureError(
                    f"in {_PATIENCE:g} s no machine had {self.cpus:g} CPUs for a decode process: name fewer "
                    "--decode-workers"
                )
            for reference in stream:
                item = ray.get(reference)
                del reference  # or the object store would keep the chunk until the next one is here
                if isinstance(item, Times):
                    clock.add(item, self.processes)
                else:
                    yield item
        except RayTaskError as error:
            raise error.cause if isinstance(error.cause, Exception) else InfrastructureError(str(error)) from error
        except RayActorError as error:
            actor = self._start()
            raise InfrastructureError(f"a decode process was lost: {one_line(error)}") from error
        finally:
            with suppress(RayError):
                ray.cancel(stream)  # nothing, where it has ended
            self._free.put(actor)
