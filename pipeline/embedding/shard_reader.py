"""Shards to decoded samples: the seam between reading and decoding, wherever they are done, and encoding."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from ..choices import USUAL_KEYS, SampleKeys
from ..dataset.part import PartLayout
from ..inputs.shards import read_samples
from ..records import Sample, Shard
from ..storage.ahead import ahead
from ..storage.pace import Share
from .chunk import Chunk
from .clock import Clock
from .together import Decoders

CHUNK = 32  # samples that go from stage to stage together,
CHUNK_BYTES = 8 << 20  # or fewer, of as many encoded bytes
ENCODED_CHUNK, ENCODED_BYTES = 256, 16 << 20  # the same where images stay encoded: a GPU's engines want many at a time
AHEAD = 3  # chunks read, and chunks decoded, that may wait: what bounds the memory


class ShardReader(Protocol):
    """What embedding a shard needs of whoever reads and decodes it."""

    def decoded(self, shard: Shard, clock: Clock) -> AbstractContextManager[Iterable[Chunk]]:
        """A shard's samples in order, a few at a time, decoded ahead of the consumer; the clock learns what reading and
        decoding took. Raises as `read_samples` does. Leaving the context ends what is under way. Thread-safe."""
        ...


@dataclass(frozen=True)
class InputOptions:
    """How shards are read."""

    keys: SampleKeys = USUAL_KEYS
    storage: Mapping[str, Any] = field(default_factory=dict)
    share: Share = field(default_factory=Share)  # of the run's requests, for a process that reads


@dataclass(frozen=True)
class ThreadedReader:
    """Reads and decodes in this process: a thread that reads, one that decodes with the help of a pool's."""

    decoders: Decoders
    layout: PartLayout
    pool: Executor  # threads
    inputs: InputOptions = field(default_factory=InputOptions)

    @contextmanager
    def decoded(self, shard: Shard, clock: Clock) -> Generator[Iterable[Chunk], None, None]:
        encoded = self.decoders.leave_jpegs
        most, after = ((ENCODED_CHUNK, ENCODED_BYTES), "engines") if encoded else ((CHUNK, CHUNK_BYTES), "encode")
        read = clock.timed("read", chunks(read_samples(shard, self.inputs.storage, self.inputs.keys), *most))
        with ExitStack() as stages:
            samples: Iterable[list[Sample]] = stages.enter_context(closing(read))
            if not encoded:  # else little is left to do, and two threads would only wait for the interpreter in turn
                samples = stages.enter_context(ahead(samples, AHEAD, clock.between("read", "decode")))
            yield stages.enter_context(ahead(self._decode(samples, clock), AHEAD, clock.between("decode", after)))

    def _decode(self, read: Iterable[list[Sample]], clock: Clock) -> Iterator[Chunk]:
        for samples in read:
            with clock.stage("decode"):
                rows = self.decoders.decode_batch(samples, self.pool)
                chunk = Chunk.of(rows, self.layout.samples(rows))
            yield chunk


def chunks(samples: Iterable[Sample], most: int, most_bytes: int) -> Iterator[list[Sample]]:
    """In order, bounded by number and by bytes, so that large images take no more memory than small ones."""
    chunk: list[Sample] = []
    size = 0
    for sample in samples:
        chunk.append(sample)
        size += len(sample.image or b"")
        if len(chunk) >= most or size >= most_bytes:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk
