"""From settings that travel to a worker, to what it holds there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch

from ...clipmodel import weights
from ...clipmodel.flops import Flops, peak
from ..choices import Precision
from ..dataset.output import Output
from ..dataset.part import PartLayout
from ..embedding.decode import Decoder
from ..embedding.embed_shard import Mill, OnRows, embed_shard
from ..embedding.encoder import ClipEncoder, Encoder, backend_for
from ..embedding.model_files import ModelFiles
from ..embedding.shard_reader import DecodingThreads, Source
from ..embedding.together import Decoders, Together
from ..records import Shard, ShardStats


class Worker(Protocol):
    """Who embeds shards, wherever it runs."""

    def embed(self, shard: Shard, on_rows: OnRows) -> ShardStats: ...


WorkerFactory = Callable[[], Worker]


@dataclass(frozen=True)
class ClipWorkerSettings:
    """Makes a worker where it is called; picklable, and small."""

    models: tuple[ModelFiles, ...]
    precision: Precision
    batch_size: int | None  # images a forward pass; None for what the device has room for
    layout: PartLayout
    provenance: Mapping[str, str]
    output: Output
    threads: int
    device: str
    decoders: int = 0  # processes that decode for it; without, its own threads do
    decoder_cpus: float = 0.0  # each
    images: bool = True
    texts: bool = True
    fast_decode: bool = False
    replace: bool = False  # parts that are there already
    storage_options: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self) -> ClipWorker:
        return ClipWorker(self)


class ClipWorker:
    def __init__(self, settings: ClipWorkerSettings) -> None:
        torch.set_num_threads(settings.threads)
        self._output = settings.output
        encoder, decoder, flops, images = _models(settings)
        self._mill = Mill(
            encoder=encoder,
            source=_source(settings, decoder),
            layout=settings.layout,
            provenance=settings.provenance,
            images_a_batch=images,
            replace=settings.replace,
            flops=flops,
            peak=peak(settings.device, settings.precision) or 0.0,
        )

    def embed(self, shard: Shard, on_rows: OnRows) -> ShardStats:
        return embed_shard(shard, self._mill, self._output, on_rows)


def _source(settings: ClipWorkerSettings, decoder: Decoder | Decoders) -> Source:
    if not settings.decoders:
        pool = ThreadPoolExecutor(settings.threads, thread_name_prefix="decode")
        return DecodingThreads(decoder, pool, settings.storage_options)
    from .reader_processes import DecodingActors  # here, as a worker by itself needs no Ray

    return DecodingActors(decoder, settings.decoders, settings.decoder_cpus, settings.storage_options)


def _models(settings: ClipWorkerSettings) -> tuple[Encoder, Decoder | Decoders, tuple[Flops, ...], int]:
    """The models' encoders, a decoder for each distinct preprocessing and tokenizer, what the models compute, and how
    many images the encoders are to be given at a time."""
    decoders: dict[tuple[object, ...], int] = {}
    encoders, distinct, flops = [], [], []
    for found in settings.models:
        loaded = weights.read(found.here(settings.storage_options), device=settings.device)
        text = loaded.card.config.text
        how = (loaded.preprocess, text.vocab_size, text.context_length)
        if how not in decoders:
            decoders[how] = len(decoders)
            preprocess = replace(loaded.preprocess, fast=settings.fast_decode) if settings.images else None
            distinct.append(Decoder(preprocess, loaded.tokenizer if settings.texts else None))
        backend = backend_for(loaded.card.config, settings.device)
        encoder = ClipEncoder(
            loaded.model, settings.device, settings.precision, settings.batch_size, compile_with=backend
        )
        encoders.append((encoder, decoders[how]))
        flops.append(Flops.of(loaded.card.config))
    images = max(encoder.batch_size for encoder, _ in encoders)
    if len(encoders) == 1:
        return encoders[0][0], distinct[0], tuple(flops), images
    return Together(tuple(encoders)), Decoders(tuple(distinct)), tuple(flops), images
