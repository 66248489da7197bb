"""Reads with whoever reads, and has the images decoded by the GPU that encodes them."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass

from ..records import Shard
from ..storage.ahead import ahead
from .chunk import Chunk
from .clock import Clock
from .gpu_decode import GpuDecoder
from .shard_reader import ShardReader

_AHEAD = 2  # chunks on the device that wait for the encoder


@dataclass(frozen=True)
class EngineReader:
    """A `ShardReader` over one whose chunks hold encoded images."""

    reader: ShardReader
    decoder: GpuDecoder

    @contextmanager
    def decoded(self, shard: Shard, clock: Clock) -> Generator[Iterable[Chunk], None, None]:
        with self.reader.decoded(shard, clock) as chunks:
            images = (self.decoder.decode(chunk, clock) for chunk in chunks)
            with ahead(images, _AHEAD, clock.between("engines", "encode")) as ready:
                yield ready
