"""From settings that travel to a worker, to what it holds there."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch

from ...clipmodel import models
from ...clipmodel.card import ModelCard
from ...clipmodel.float8 import check_float8
from ...clipmodel.flops import Flops, peak
from ...clipmodel.seams import Card
from ..dataset.output import Output
from ..embedding.clock import WorkerClock
from ..embedding.compiled import import_compiler
from ..embedding.decode import Decoder
from ..embedding.embed_shard import OnRows, ShardTools, embed_shard
from ..embedding.encoder import AdaptedEncoder, ClipEncoder, backend_for, encoder_of
from ..embedding.engine_reader import EngineReader
from ..embedding.feed import OnBusy
from ..embedding.freed_memory import keep_freed_memory
from ..embedding.gpu_decode import GpuDecoder, open_decoder
from ..embedding.leaving_out import LeavingOut
from ..embedding.settings import DatasetSettings
from ..embedding.shard_reader import InputOptions, ThreadedReader
from ..embedding.together import Decoders, Together
from ..job.embed import EmbedJob
from ..records import Shard, ShardStats
from ..storage.pace import Share, settle
from .placement import Placement
from .reader_processes import ProcessReader, ReaderSettings
from .readers import LentReader

_LOG = logging.getLogger(__name__)


class Worker(Protocol):
    """Who embeds shards, wherever it runs."""

    def embed(self, shard: Shard, on_rows: OnRows) -> ShardStats: ...

    def lend(self, readers: Sequence[LentReader]) -> None:
        """Processes that read for it from now on; called only where the placement has some."""


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

    @property
    def share(self) -> Share:
        """Of each process that reads: of the workers, or at first of those that read for them. Workers that only write
        send two requests a shard."""
        workers = max(self.placement.workers, self.job.workers or 0)
        return Share(self.placement.readers or workers, self.job.max_requests_per_second)

    @property
    def reading(self) -> ReaderSettings:
        """For the processes that read for its workers."""
        inputs = InputOptions(self.job.sample_keys, self.job.storage_options, self.share)
        return ReaderSettings(_Ways.of(self).decoders, self.dataset.layout, inputs)


class ClipWorker:
    """Models and decoders in one process, for all the shards that it is given."""

    def __init__(self, settings: WorkerSettings) -> None:
        settle(settings.share)
        torch.set_num_threads(settings.threads)
        if settings.dataset.precision == "fp8":
            check_float8(settings.device)
        self._output, job, dataset = settings.output, settings.job, settings.dataset
        if any(isinstance(card, ModelCard) and backend_for(card.config, settings.device) for _, card in dataset.models):
            import_compiler()
        ways = _Ways.of(settings)
        decoder = _gpu_decoder(settings, ways.decoders)
        self._process_reader = ProcessReader(decoder is not None) if settings.placement.readers else None
        reader = self._process_reader or _threads(settings, ways.decoders, decoder is not None)
        clock = WorkerClock()
        models = _Models.load(settings, ways.of_models, partial(clock.charge, "gpu"))
        self._tools = ShardTools(
            encoder=models.encoder,
            reader=EngineReader(reader, decoder) if decoder else reader,
            layout=dataset.layout,
            provenance=dataset.provenance,
            images_a_batch=models.images_a_batch,
            replace=job.replaces_parts,
            flops=models.flops,
            peak=peak(settings.device, dataset.precision) or 0.0,
            clock=clock,
            leaving_out=LeavingOut.of(self._output),
        )
        if settings.device == "cpu":
            keep_freed_memory()

    def embed(self, shard: Shard, on_rows: OnRows) -> ShardStats:
        return embed_shard(shard, self._tools, self._output, on_rows)

    def lend(self, readers: Sequence[LentReader]) -> None:
        if self._process_reader is not None:
            self._process_reader.lend(readers)


def _gpu_decoder(settings: WorkerSettings, decoders: Decoders) -> GpuDecoder | None:
    """What decodes JPEGs on the worker's GPU; None where it cannot, or the pixels are to be Pillow's own."""
    if settings.device == "cpu" or not decoders.fit_engines:
        return None
    decoder = open_decoder(settings.device, decoders.ways)
    if decoder is None:
        _LOG.warning("this GPU's JPEG engines cannot be used, so CPUs decode: is clipmill[gpu] installed?")
    return decoder


def _threads(settings: WorkerSettings, decoders: Decoders, leave_jpegs: bool) -> ThreadedReader:
    """This process's own."""
    reading = settings.reading
    pool = ThreadPoolExecutor(settings.threads, thread_name_prefix="decode")
    return ThreadedReader(decoders.leaving_jpegs() if leave_jpegs else decoders, reading.layout, pool, reading.inputs)


@dataclass(frozen=True)
class _Ways:
    """How samples are decoded: once for each way of preprocessing and tokenising that the models have."""

    decoders: Decoders
    of_models: tuple[int, ...]  # the number, for each model, of the decoder that decodes for it

    @classmethod
    def of(cls, settings: WorkerSettings) -> _Ways:
        cards = [card for _, card in settings.dataset.models]
        ways = [(card.images(), card.tokens()) for card in cards]
        distinct = list(dict.fromkeys(ways))
        decoders = Decoders(tuple(_decoder(cards[ways.index(way)], settings.job) for way in distinct))
        return cls(decoders, tuple(distinct.index(way) for way in ways))


@dataclass(frozen=True)
class _Models:
    """One model, or several that share a pass."""

    encoder: Together
    flops: tuple[Flops, ...]  # of each model
    images_a_batch: int  # that the encoders are to be given at a time

    @classmethod
    def load(cls, settings: WorkerSettings, ways: Sequence[int], on_gpu_busy: OnBusy) -> _Models:
        """ways: of each model, the number of its decoder."""
        encoders: list[tuple[ClipEncoder | AdaptedEncoder, int]] = []
        for (files, _), way in zip(settings.dataset.models, ways, strict=True):
            model = models.read(files.here(settings.job.storage_options), device=settings.device).model
            precision, most = settings.dataset.precision, settings.job.batch_size
            encoder = encoder_of(model, settings.device, precision, most, compiled=True, on_gpu_busy=on_gpu_busy)
            encoders.append((encoder, way))
        flops = tuple(card.flops for _, card in settings.dataset.models)
        images = max(encoder.batch_size for encoder, _ in encoders)
        return cls(Together(tuple(encoders)), flops, images)


def _decoder(card: Card, job: EmbedJob) -> Decoder:
    return Decoder(card.images(job.decoding, job.exif) if job.images else None, card.texts() if job.texts else None)
