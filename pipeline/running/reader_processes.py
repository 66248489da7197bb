"""Reading and decoding in processes of their own, on any machine of the cluster.

One interpreter cannot feed a GPU: a tenth of what decoding takes holds its lock. Each process reads and decodes whole
shards for the worker that it is lent to (`reader_pool.py`); chunks come back through Ray's object store, written there
once, and on the same machine read where they lie.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError

from ..dataset.part import PartLayout
from ..embedding.chunk import Chunk
from ..embedding.clock import Clock
from ..embedding.shard_reader import InputOptions, ThreadedReader
from ..embedding.together import Decoders
from ..errors import ClipmillError, one_line
from ..records import Reading, Shard, Times
from ..storage.ahead import Waits, ahead
from ..storage.pace import settle
from .readers import LentReader, ReadingFailed
from .worker_handle import OUR_MISTAKES

CHUNKS_ON_THE_WAY = 3  # chunks of a shard in the object store: beyond them its process waits


@dataclass(frozen=True)
class ReaderSettings:
    """What a process needs for reading; picklable, and small."""

    decoders: Decoders
    layout: PartLayout
    inputs: InputOptions = field(default_factory=InputOptions)


class ReaderProcess:
    """Reads one shard at a time; lives in an actor."""

    def __init__(self, settings: ReaderSettings, threads: int) -> None:
        settle(settings.inputs.share)
        self._settings, self._pool = settings, ThreadPoolExecutor(threads)

    def started(self) -> None: ...

    def share(self, processes: int) -> None:
        """How many of them read now, who share what requests there may be."""
        settle(replace(self._settings.inputs.share, processes=processes))

    def decoded(self, shard: Shard, leave_jpegs: bool) -> Iterator[Chunk | Times]:
        """Its chunks, and where the time went. leave_jpegs: to the GPU of whoever asks."""
        settings, clock = self._settings, Clock()
        decoders = settings.decoders.leaving_jpegs() if leave_jpegs else settings.decoders
        reader = ThreadedReader(decoders, settings.layout, self._pool, settings.inputs)
        with reader.decoded(shard, clock) as chunks:
            yield from chunks
        yield clock.times()


class ProcessReader:
    """A `ShardReader` that reads with whichever processes are lent to its worker."""

    def __init__(self, leave_jpegs: bool) -> None:
        self._leave_jpegs = leave_jpegs
        self._changed = threading.Condition()
        self._lent: dict[int, LentReader] = {}
        self._busy: set[int] = set()

    def lend(self, readers: Sequence[LentReader]) -> None:
        """All that it has from now on. One that is taken away ends the shard that it is reading."""
        with self._changed:
            self._lent = {reader.number: reader for reader in readers}
            self._changed.notify_all()

    def _lose(self, reader: LentReader) -> None:
        """One that has ended: other shards wait for the next one."""
        with self._changed:
            self._lent.pop(reader.number, None)

    @contextmanager
    def decoded(self, shard: Shard, clock: Clock) -> Generator[Iterable[Chunk], None, None]:
        after = "engines" if self._leave_jpegs else "encode"
        waits = Waits(for_items=clock.between("decode", after).for_items)  # the process tells of its own
        with self._one() as reader, ahead(self._stream(reader, shard, clock), 1, waits) as rows:
            yield rows

    @contextmanager
    def _one(self) -> Generator[LentReader, None, None]:
        """A process that is free; waits for one."""
        with self._changed:
            self._changed.wait_for(lambda: self._lent.keys() - self._busy)
            number = min(self._lent.keys() - self._busy)
            reader = self._lent[number]
            self._busy.add(number)
        try:
            yield reader
        finally:
            with self._changed:
                self._busy.discard(number)
                self._changed.notify_all()

    def _stream(self, reader: LentReader, shard: Shard, clock: Clock) -> Iterator[Chunk]:
        options = {"num_returns": "streaming", "_generator_backpressure_num_objects": CHUNKS_ON_THE_WAY}
        stream = reader.actor.decoded.options(**options).remote(shard, self._leave_jpegs)
        try:
            for reference in stream:
                item = ray.get(reference)
                del reference  # or the object store would keep the chunk until the next one is here
                if isinstance(item, Times):
                    clock.add(item, max(len(self._lent), 1))
                    clock.reading = Reading(reader.number, reader.machine, _waited(item))
                else:
                    yield item
        except RayTaskError as error:
            raise _reason(error, reader) from error
        except RayActorError as error:
            self._lose(reader)
            lost = f"a decode process was lost: {one_line(error)}"
            raise ReadingFailed(lost, reader.number, reader.machine, lost=True) from error
        finally:
            with suppress(RayError):
                ray.cancel(stream)  # nothing, where it has ended


def _waited(times: Times) -> float:
    """The share of its time in which a process waited for room behind it."""
    return times.blocked.get("decode", 0.0) / max(times.busy["total"], 1e-9)


def _reason(error: RayTaskError, reader: LentReader) -> Exception:
    """Of what is wrong with the shard, the shard's own; of what may be wrong with the machine, `ReadingFailed`."""
    cause = error.cause if isinstance(error.cause, Exception) else None
    if isinstance(cause, (ClipmillError, *OUR_MISTAKES)):
        return cause
    message = str(error).strip().splitlines()[-1] if cause is None else f"{type(cause).__name__}: {one_line(cause)}"
    return ReadingFailed(message, reader.number, reader.machine)
