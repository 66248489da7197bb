"""From settings that travel to a worker, to what it holds there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from ..clipmodel import weights
from ..clipmodel.weights import Resolved
from .decode import Decoder
from .embed_shard import Mill, OnRows, embed_shard
from .encode import ClipEncoder, Precision
from .output import Output
from .parquet import PartLayout
from .records import Shard, ShardStats


class Worker(Protocol):
    """Who embeds shards, wherever it runs."""

    def embed(self, shard: Shard, on_rows: OnRows) -> ShardStats: ...


WorkerFactory = Callable[[], Worker]


@dataclass(frozen=True)
class ClipWorkerSettings:
    """Makes a worker where it is called; picklable, and small."""

    model: Resolved
    precision: Precision
    batch_size: int
    layout: PartLayout
    provenance: Mapping[str, str]
    output: Output
    threads: int
    device: str
    images: bool = True
    texts: bool = True
    replace: bool = False  # parts that are there already
    storage_options: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self) -> ClipWorker:
        return ClipWorker(self)


class ClipWorker:
    def __init__(self, settings: ClipWorkerSettings) -> None:
        torch.set_num_threads(settings.threads)
        loaded = weights.read(settings.model, device=settings.device)
        self._output = settings.output
        self._mill = Mill(
            encoder=ClipEncoder(loaded.model, settings.device, settings.precision, settings.batch_size),
            decoder=Decoder(
                loaded.preprocess if settings.images else None, loaded.tokenizer if settings.texts else None
            ),
            pool=ThreadPoolExecutor(settings.threads, thread_name_prefix="decode"),
            layout=settings.layout,
            provenance=settings.provenance,
            images_a_batch=settings.batch_size,
            replace=settings.replace,
            storage_options=settings.storage_options,
        )

    def embed(self, shard: Shard, on_rows: OnRows) -> ShardStats:
        return embed_shard(shard, self._mill, self._output, on_rows)
