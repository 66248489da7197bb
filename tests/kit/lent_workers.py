"""Workers that others read for, and the decoders of those who read.

Ray's workers get this module by value, as they get `fakes`.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from clipmill.pipeline.dataset.output import Output
from clipmill.pipeline.embedding.decode import Decoder
from clipmill.pipeline.embedding.embed_shard import ShardTools, embed_shard
from clipmill.pipeline.embedding.together import Decoders
from clipmill.pipeline.records import Decoded, Sample, Shard, ShardStats
from fakes import FAKE_LAYOUT, attempt, fake_decoder, fake_tools
from PIL import Image


@dataclass(frozen=True)
class WatchedDecoder(Decoder):
    """Writes down each chunk that it decodes. `dies`: kills its process at a chunk, once. `fails`: at one, once, for
    what is nothing of the shard's. `pause`: seconds a chunk."""

    folder: Path = Path()
    dies: int | None = None
    fails: int | None = None
    pause: float = 0.0

    @classmethod
    def at(cls, folder: Path, dies: int | None = None, fails: int | None = None) -> WatchedDecoder:
        decoder = fake_decoder()
        return cls(decoder.preprocess, decoder.tokenizer, folder=folder, dies=dies, fails=fails)

    def decode_batch(self, samples: Sequence[Sample], pool: Executor | None = None) -> list[Decoded]:
        number = attempt(self.folder, "chunk")
        if number == self.dies:
            os._exit(1)
        if number == self.fails:
            raise OSError("the network is down")
        time.sleep(self.pause)
        return super().decode_batch(samples, pool)


@dataclass
class PillowEngines:
    """Stands in for a GPU's JPEG engines: decodes with Pillow, and refuses every `refuses`-th file."""

    refuses: int = 0
    batches: list[int] = field(default_factory=list)  # files that were asked for at once

    def decode(self, files: Sequence[Any], stream: int) -> list[Any]:
        self.batches.append(len(files))
        return [None if self.refuses and not i % self.refuses else _pixels(file) for i, file in enumerate(files)]


def _pixels(file: Any) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(file.tobytes())).convert("RGB"))


@dataclass(frozen=True)
class ActorFactory:
    """A factory of workers that others read for, and that embed for real with a fake model."""

    output: Output
    decoder: Decoder
    engines: bool = False  # images stay encoded until they are at the worker

    def __call__(self) -> ActorWorker:
        from clipmill.pipeline.embedding.engine_reader import EngineReader
        from clipmill.pipeline.embedding.gpu_decode import GpuDecoder
        from clipmill.pipeline.running.reader_processes import ProcessReader

        reader = ProcessReader(self.engines)
        if not self.engines:
            return ActorWorker(fake_tools(reader=reader), self.output, reader)
        decoder = GpuDecoder("cpu", Decoders((self.decoder,)).ways, [PillowEngines(refuses=5)])
        return ActorWorker(fake_tools(reader=EngineReader(reader, decoder)), self.output, reader)

    def pool(self, placement: Any, seats: Any) -> Any:
        """Who reads for them."""
        from clipmill.pipeline.running.autoscaler import Demand
        from clipmill.pipeline.running.reader_pool import ReaderPool
        from clipmill.pipeline.running.reader_processes import ReaderSettings

        settings = ReaderSettings(Decoders((self.decoder,)), FAKE_LAYOUT)
        return ReaderPool(settings, placement, seats, Demand(lambda _: None))


@dataclass
class ActorWorker:
    tools: ShardTools
    output: Output
    reader: Any

    def embed(self, shard: Shard, on_rows: Callable[[int, int], None]) -> ShardStats:
        return embed_shard(shard, self.tools, self.output, on_rows)

    def lend(self, readers: Sequence[Any]) -> None:
        self.reader.lend(readers)
