"""From settings that travel to a worker, to what it holds there."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Protocol

import torch

from ...clipmodel import weights
from ...clipmodel.flops import Flops, peak
from ..dataset.output import Output
from ..embedding.decode import Decoder
from ..embedding.embed_shard import OnRows, ShardTools, embed_shard
from ..embedding.encoder import ClipEncoder, backend_for
from ..embedding.settings import DatasetSettings
from ..embedding.shard_reader import InputOptions, ShardReader, ThreadedReader
from ..embedding.together import Decoders, Together
from ..job.embed import EmbedJob
from ..records import Shard, ShardStats
from .placement import Placement


class Worker(Protocol):
    """Who embeds shards, wherever it runs."""

    def embed(self, shard: Shard, on_rows: OnRows) -> ShardStats: ...


WorkerFactory = Callable[[], Worker]


@dataclass(frozen=True)
class WorkerSettings:
    """Makes a worker where it is called; picklable, and small."""

    job: EmbedJob
    dataset: DatasetSettings
    output: Output
    placement: Placement

    def __call__(self) -> ClipWorker:
        return ClipWorker(self)

    @property
    def device(self) -> str:
        return "cuda" if self.placement.gpus > 0 else "cpu"

    @property
    def threads(self) -> int:
        return max(1, int(self.placement.cpus))


class ClipWorker:
    """Models and decoders in one process, for all the shards that it is given."""

    def __init__(self, settings: WorkerSettings) -> None:
        torch.set_num_threads(settings.threads)
        self._output, job, dataset = settings.output, settings.job, settings.dataset
        models = _Models.load(settings)
        self._tools = ShardTools(
            encoder=models.encoder,
            reader=_reader(settings, models.decoders),
            layout=dataset.layout,
            provenance=dataset.provenance,
            images_a_batch=models.images_a_batch,
            replace=job.replaces_parts,
            flops=models.flops,
            peak=peak(settings.device, dataset.precision) or 0.0,
        )

    def embed(self, shard: Shard, on_rows: OnRows) -> ShardStats:
        return embed_shard(shard, self._tools, self._output, on_rows)


def _reader(settings: WorkerSettings, decoders: Decoders) -> ShardReader:
    placement, layout = settings.placement, settings.dataset.layout
    inputs = InputOptions(settings.job.sample_keys, settings.job.storage_options)
    if not placement.decoders:
        pool = ThreadPoolExecutor(settings.threads, thread_name_prefix="decode")
        return ThreadedReader(decoders, layout, pool, inputs)
    from .reader_processes import ProcessReader  # here, as a worker by itself needs no Ray

    return ProcessReader(decoders, layout, placement.decoders, placement.decoder_cpus, inputs)


@dataclass(frozen=True)
class _Models:
    """One model, or several that share a pass."""

    encoder: Together
    decoders: Decoders  # several where the models preprocess or tokenise in different ways
    flops: tuple[Flops, ...]  # of each model
    images_a_batch: int  # that the encoders are to be given at a time

    @classmethod
    def load(cls, settings: WorkerSettings) -> _Models:
        encoders: list[tuple[ClipEncoder, int]] = []
        decoders: dict[tuple[object, ...], Decoder] = {}
        flops: list[Flops] = []
        for files in settings.dataset.models:
            loaded = weights.read(files.here(settings.job.storage_options), device=settings.device)
            config = loaded.card.config
            way = (loaded.preprocess, config.text.vocab_size, config.text.context_length)
            if way not in decoders:
                decoders[way] = _decoder(loaded, settings.job)
            encoders.append((_encoder(loaded, settings), list(decoders).index(way)))
            flops.append(Flops.of(config))
        images = max(encoder.batch_size for encoder, _ in encoders)
        return cls(Together(tuple(encoders)), Decoders(tuple(decoders.values())), tuple(flops), images)


def _decoder(loaded: weights.Loaded, job: EmbedJob) -> Decoder:
    preprocess = replace(loaded.preprocess, decoding=job.decoding, turn=job.exif) if job.images else None
    return Decoder(preprocess, loaded.tokenizer if job.texts else None)


def _encoder(loaded: weights.Loaded, settings: WorkerSettings) -> ClipEncoder:
    backend = backend_for(loaded.card.config, settings.device)
    batch_size = settings.job.batch_size
    return ClipEncoder(loaded.model, settings.device, settings.dataset.precision, batch_size, compile_with=backend)
