"""The main job: list, plan, embed what is not committed yet, account for all of it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from importlib import metadata
from typing import Any, Literal

from ..clipmodel import weights
from ..clipmodel.download import Progress
from ..clipmodel.weights import ModelCard, Resolved
from .cluster import Event, Placement, Rows, ShardDone, ShardFailed, WorkersStarted, connected, gpus, place, run_shards
from .encode import Precision
from .errors import TooManyFailuresError, UserError
from .inputs import list_shards, look_into
from .output import Output
from .parquet import Column, EmbeddingType, PartLayout
from .plan import Fingerprint, freeze, read_plan
from .records import Shard, ShardStats
from .summary import MANIFEST, QUARANTINE, SUCCESS, SUMMARY, Summary, Totals, ledger, write_manifest
from .worker import ClipWorkerSettings

DEFAULT_COLUMNS = (Column("uid"), Column("url"), Column("caption"))
_FEW = 1000  # samples, before which a share of failures says nothing


@dataclass(frozen=True)
class EmbedJob:
    """What to embed, with what, into what."""

    inputs: Sequence[str]
    out: str
    model: str  # NAME, NAME=WEIGHTS or a path, as `clipmodel.load` takes it
    columns: tuple[Column, ...] = DEFAULT_COLUMNS
    precision: Literal["auto"] | Precision = "auto"
    embedding_type: EmbeddingType = "float16"
    images: bool = True
    texts: bool = True
    batch_size: int | None = None  # images; None chooses
    workers: int | None = None
    gpus_per_worker: float | None = None
    max_failed_samples: float = 0.5  # share of samples
    max_failed_shards: int = 0
    address: str = "auto"
    storage_options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def embeds(self) -> list[str]:
        return [side for side, wanted in (("images", self.images), ("texts", self.texts)) if wanted]

    def check(self) -> None:
        """UserError for values that no run could use."""
        for name, value in (("--batch-size", self.batch_size), ("--workers", self.workers)):
            if value is not None and value < 1:
                raise UserError(f"{name} {value}: must be at least 1")
        if self.gpus_per_worker is not None and self.gpus_per_worker < 0:
            raise UserError(f"--gpus-per-worker {self.gpus_per_worker:g}: must not be negative")
        if not 0 <= self.max_failed_samples <= 1:
            raise UserError(f"--max-failed-samples {self.max_failed_samples:g}: must be a share, from 0 to 1")
        if self.max_failed_shards < 0:
            raise UserError(f"--max-failed-shards {self.max_failed_shards}: must not be negative")
        if not (self.images or self.texts):
            raise UserError("--no-images and --no-texts together leave nothing to embed")
        if len({column.name for column in self.columns}) < len(self.columns):
            raise UserError("--column: a name is given twice")


@dataclass(frozen=True)
class Planned:
    """Told once, before the workers start."""

    shards: int
    done: int
    model: str
    precision: str


OnEvent = Callable[[Event | Planned], None]


def embed(job: EmbedJob, on_event: OnEvent = lambda _: None, on_download: Progress | None = None) -> Summary:
    """Embed every sample of the inputs into one Parquet part a shard; run again to resume.

    Raises UserError before any worker starts for what is wrong with the request, TooManyFailuresError when more
    samples or shards failed than the job allows (what was embedded stays), InfrastructureError when workers or the
    storage failed for good.
    """
    began = time.monotonic()
    job.check()
    shards = list_shards(job.inputs, job.storage_options)
    output = Output.at(job.out, job.storage_options)
    if not output.parts():
        look_into(shards, job.storage_options)
    model = weights.resolve(job.model, progress=on_download)
    loaded = weights.read(model)  # here too, so that a broken file is told before any worker starts
    card = loaded.card
    del loaded
    output.prepare()
    layout = PartLayout(job.columns, card.config.embed_dim, card.config.text.context_length, job.embedding_type)

    begun = read_plan(output)
    with ExitStack() as stack:
        if begun is None and job.precision == "auto":
            stack.enter_context(connected(job.address))  # who has GPUs decides the precision
        precision = _precision(job, begun)
        fingerprint = Fingerprint.of(card, precision, layout, job.embeds)
        planned = freeze(output, fingerprint, shards)
        committed = output.parts()
        todo = [shard for shard in shards if shard.part_name not in committed]
        done = sum(shard.part_name in committed for shard in planned)
        on_event(Planned(len(planned), done, f"{card.variant} ({card.weights})", precision))
        run = _Run(job, on_event)
        if todo:
            output.delete(SUCCESS)
            stack.enter_context(connected(job.address))
            placement = place(job.workers, job.gpus_per_worker, len(todo))
            settings = _settings(job, model, precision, layout, card, fingerprint, output, placement)
            run.workers = placement.workers
            for event in run_shards(todo, settings, placement):
                run.see(event)
    return _account(run, output, planned, done, fingerprint, began)


class _Run:
    """What this run has seen so far."""

    def __init__(self, job: EmbedJob, on_event: OnEvent) -> None:
        self.job, self._on_event = job, on_event
        self.stats: list[ShardStats] = []
        self.failed: dict[str, str] = {}
        self.totals = Totals()
        self.workers = 0
        self.ready: float | None = None
        self.ended: float | None = None
        self._rows = self._failed_rows = 0

    def see(self, event: Event) -> None:
        if isinstance(event, WorkersStarted):
            self.ready = time.monotonic()
        elif isinstance(event, ShardDone):
            self.stats.append(event.stats)
            self.totals.add(event.stats)
            self.ended = time.monotonic()
        elif isinstance(event, ShardFailed):
            self.failed[event.shard.url] = event.reason
        elif isinstance(event, Rows):
            self._rows += event.embedded + event.failed
            self._failed_rows += event.failed
        self._on_event(event)
        if self._rows > _FEW and self._failed_rows > self.job.max_failed_samples * self._rows:
            reasons = "; ".join(f"{reason} ({n:,})" for reason, n in self.totals.failures.most_common(3))
            share = f"{self._failed_rows:,} of {self._rows:,} samples failed"
            raise TooManyFailuresError(
                f"{share}{f': {reasons}' if reasons else ''}. Stopped; allow more with --max-failed-samples"
            )

    @property
    def busy_seconds(self) -> float:
        return self.ended - self.ready if self.ended and self.ready else 0.0


def _precision(job: EmbedJob, begun: Fingerprint | None) -> Precision:
    """`auto` is what the dataset was begun with, else bf16 on GPUs and fp32 elsewhere."""
    if job.precision != "auto":
        return job.precision
    if begun is not None:
        return begun.precision
    return "bf16" if job.gpus_per_worker != 0 and gpus() else "fp32"


def _settings(
    job: EmbedJob,
    model: Resolved,
    precision: Precision,
    layout: PartLayout,
    card: ModelCard,
    fingerprint: Fingerprint,
    output: Output,
    placement: Placement,
) -> ClipWorkerSettings:
    on_gpu = placement.gpus > 0
    return ClipWorkerSettings(
        model=model,
        precision=precision,
        batch_size=job.batch_size or (256 if on_gpu else 32),
        layout=layout,
        provenance={
            "clipmill.version": metadata.version("clipmill"),
            "clipmill.fingerprint": fingerprint.digest,
            "clipmill.model_card": json.dumps({**asdict(card), "precision": precision}),
        },
        output=output,
        threads=max(1, int(placement.cpus)),
        device="cuda" if on_gpu else "cpu",
        images=job.images,
        texts=job.texts,
        storage_options=job.storage_options,
    )


def _account(
    run: _Run, output: Output, planned: list[Shard], done: int, fingerprint: Fingerprint, began: float
) -> Summary:
    """Write the manifest, the summary and, when nothing is missing, `_SUCCESS`."""
    every = ledger(output, planned, run.stats)
    dataset = Totals()
    for stats in every:
        dataset.add(stats)
    summary = Summary(
        out=output.url,
        planned=len(planned),
        done_before=done,
        run=run.totals,
        seconds=time.monotonic() - began,
        busy_seconds=run.busy_seconds,
        failed_shards=run.failed,
        dataset=dataset,
        fingerprint=fingerprint.digest,
        workers=run.workers,
    )
    if run.stats or run.failed or None in (output.read(SUCCESS), output.read(MANIFEST)):
        write_manifest(output, every)
        output.write(SUMMARY, json.dumps(summary.as_json(), indent=2).encode())
        output.write(QUARANTINE, json.dumps(run.failed, indent=2).encode())
        if summary.complete:
            output.write(SUCCESS, b"")
    _judge(run, summary)
    return summary


def _judge(run: _Run, summary: Summary) -> None:
    job, dataset = run.job, summary.dataset
    if len(run.failed) > job.max_failed_shards:
        url, reason = next(iter(run.failed.items()))
        first = reason if reason.startswith(url) else f"{url}: {reason}"
        rest = f" (and {len(run.failed) - 1} more; see {QUARANTINE})" if len(run.failed) > 1 else ""
        raise TooManyFailuresError(f"{len(run.failed)} of {summary.planned} shards failed: {first}{rest}")
    if dataset.rows and dataset.failed > job.max_failed_samples * dataset.rows:
        reasons = "; ".join(f"{reason} ({n:,})" for reason, n in dataset.failures.most_common(3))
        raise TooManyFailuresError(f"{dataset.failed:,} of {dataset.rows:,} samples failed: {reasons}")
