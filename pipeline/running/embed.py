"""The main job: list, plan, embed what is not committed yet, account for all of it."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import TYPE_CHECKING

from ...clipmodel.download import Progress
from ..choices import Precision
from ..dataset.columns import columns_besides
from ..dataset.manifest import MANIFEST, Manifest, ledger, write_manifest
from ..dataset.output import Output
from ..dataset.part import Column, PartLayout
from ..dataset.plan import Fingerprint, Plan, freeze, read_plan, settle
from ..dataset.summary import QUARANTINE, SUCCESS, SUMMARY, Summary, quarantined
from ..errors import InfrastructureError, StoppedError, TooManyFailuresError, UserError
from ..inputs.listing import list_shards, look_into
from ..job.embed import EmbedJob
from ..records import Shard
from ..redaction import redacted_text
from .backlog import Limits
from .cluster import asked_for, connected, gpus, place, room
from .driver import Orders, run_shards
from .events import Event, FewerWorkers, Planned
from .metrics import Metrics
from .notes import Notes
from .placement import Placement
from .tally import Tally

if TYPE_CHECKING:
    from ...clipmodel.weights import ModelCard
    from ..embedding.model_files import ModelFiles
    from .worker import ClipWorkerSettings

_LOOK = 2.0  # seconds between two looks at a cluster that may grow

OnEvent = Callable[[Event], None]


def embed(
    job: EmbedJob,
    on_event: OnEvent = lambda _: None,
    on_download: Progress | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Summary:
    """Embed every sample of the inputs into one Parquet part a shard; run again to resume.

    stop: asked often; once it says so, no more shards are given out, and StoppedError follows when those in hand are
    done. Raises UserError before any worker starts for what is wrong with the request, TooManyFailuresError when more
    samples or shards failed than the job allows (what was embedded stays), InfrastructureError when workers or the
    storage failed for good.
    """
    began = time.monotonic()
    job.check()
    columns = columns_besides(job.columns)
    shards = list_shards(job.inputs, job.storage_options)
    output = Output.at(job.out, job.storage_options)
    if not output.parts():
        look_into(shards, job.storage_options)
    models, cards = _models(job, on_download)
    output = output.prepare()
    layout = _layout(job, columns, cards)
    begun = read_plan(output)
    with ExitStack() as stack:
        if begun is None and job.precision == "auto":
            stack.enter_context(_cluster(job))  # who has GPUs decides the precision
            _placed(job, len(shards))  # refused, if it must be, before the plan is frozen
        precision = _precision(job, begun)
        fingerprint = Fingerprint.of(cards, precision, layout, job.embeds, job.fast_decode)
        committed = output.parts()
        plan = freeze(output, fingerprint, shards, committed)
        todo = _todo(job, shards, plan, output, committed)
        done = sum(shard.part_name in committed for shard in plan.shards)
        tally, notes = Tally(job), Notes(output)
        named = ", ".join(f"{card.variant} ({card.weights})" for card in cards.values())
        planned = Planned(len(plan.shards), done, named, precision, len(todo), len(plan.changed))
        on_event(planned)
        if todo:
            stack.enter_context(_cluster(job))
            placement = _placed(job, len(todo))
            output.delete(SUCCESS)
            if placement.workers < min(job.workers or 0, len(todo)):
                on_event(FewerWorkers(job.workers or 0, placement.workers))
            frozen = _Frozen(tuple(models.values()), cards, precision, layout, fingerprint)
            settings = _settings(job, frozen, output, placement)
            metrics = Metrics(redacted_text(output.url))
            metrics.see(planned)
            try:
                for event in run_shards(todo, settings, placement, _orders(job, stop, len(todo), placement)):
                    on_event(event)
                    metrics.see(event)
                    notes.see(event)
                    tally.see(event)
            except TooManyFailuresError as error:
                tally.over = error
    return _account(_Begun(began, output, fingerprint, plan, todo, done), tally, notes.manifest)


def _models(job: EmbedJob, on_download: Progress | None) -> tuple[dict[str, ModelFiles], dict[str, ModelCard]]:
    """By alias: their files, and what these hold, read here too so that a broken one is told before workers start."""
    from ...clipmodel import weights  # with torch, which takes a second: inputs that are missing are refused before
    from ..embedding.model_files import find_model

    models = {each.alias: find_model(each.spec, job.storage_options, on_download) for each in job.models}
    return models, {alias: weights.read(model.resolved).card for alias, model in models.items()}


def _todo(
    job: EmbedJob, shards: Sequence[Shard], plan: Plan, output: Output, committed: Collection[str]
) -> list[Shard]:
    """Which of the shards asked for this run embeds."""
    changed = {shard.url for shard in plan.changed} if job.refresh else set()
    if job.retry_failed:
        every = ledger(output, plan.shards, Manifest.of())
        failed = {stats.url for stats in every if stats.failed} | set(quarantined(output))
        again = failed | changed
        return [shard for shard in shards if shard.url in again]
    return [shard for shard in shards if shard.part_name not in committed or shard.url in changed]


@contextmanager
def _cluster(job: EmbedJob) -> Iterator[None]:
    with connected(job.address), asked_for(job.workers, job.gpus_per_worker):
        yield


def _placed(job: EmbedJob, shards: int) -> Placement:
    """Places for workers, as soon as there is one; UserError where there is none in time."""
    end = time.monotonic() + job.wait_for_machines
    while True:
        try:
            return place(job.workers, job.gpus_per_worker, shards, job.decode_workers)
        except UserError:
            if time.monotonic() >= end:
                raise
        time.sleep(min(_LOOK, job.wait_for_machines))


def _orders(job: EmbedJob, stop: Callable[[], bool], shards: int, placement: Placement) -> Orders:
    at_first, most = room(placement), min(shards, job.workers or shards)

    def workers() -> int:
        """More of the same size where there is more room than at first; none where all machines leave."""
        now = room(placement)
        return min(placement.workers + now - at_first, most) if now else 0

    patience = max(Orders.patience, job.wait_for_machines)
    return Orders(Limits(deadline=job.shard_deadline), stop, workers, patience)


def _precision(job: EmbedJob, begun: Fingerprint | None) -> Precision:
    """`auto` is what the dataset was begun with, else bf16 on GPUs and fp32 elsewhere."""
    if job.precision != "auto":
        return job.precision
    if begun is not None:
        return begun.precision
    return "bf16" if job.gpus_per_worker != 0 and gpus() else "fp32"


def _layout(job: EmbedJob, columns: tuple[Column, ...], cards: Mapping[str, ModelCard]) -> PartLayout:
    dims = tuple((alias, card.config.embed_dim) for alias, card in cards.items())
    context = next(iter(cards.values())).config.text.context_length
    layout = PartLayout(columns, sum(dim for _, dim in dims), context, job.embedding_type, dims)
    if twice := [name for name, count in Counter(layout.schema.names).items() if count > 1]:
        raise UserError(f"--column {twice[0]}: the part has a column of that name already")
    return layout


@dataclass(frozen=True)
class _Frozen:
    """What all parts of the dataset have in common."""

    models: tuple[ModelFiles, ...]
    cards: Mapping[str, ModelCard]
    precision: Precision
    layout: PartLayout
    fingerprint: Fingerprint

    @property
    def provenance(self) -> dict[str, str]:
        cards = {alias: {**asdict(card), "precision": self.precision} for alias, card in self.cards.items()}
        return {
            "clipmill.version": metadata.version("clipmill"),
            "clipmill.fingerprint": self.fingerprint.digest,
            "clipmill.model_card": json.dumps(cards.get("", cards)),
        }


def _settings(job: EmbedJob, frozen: _Frozen, output: Output, placement: Placement) -> ClipWorkerSettings:
    from .worker import ClipWorkerSettings  # with torch, as above

    on_gpu = placement.gpus > 0
    return ClipWorkerSettings(
        models=frozen.models,
        precision=frozen.precision,
        batch_size=job.batch_size,
        layout=frozen.layout,
        provenance=frozen.provenance,
        output=output,
        threads=max(1, int(placement.cpus)),
        device="cuda" if on_gpu else "cpu",
        decoders=placement.decoders,
        decoder_cpus=placement.decoder_cpus,
        images=job.images,
        texts=job.texts,
        fast_decode=job.fast_decode,
        replace=job.retry_failed or job.refresh,
        storage_options=job.storage_options,
    )


@dataclass(frozen=True)
class _Begun:
    """What a run set out to do."""

    at: float  # when, by the monotonic clock
    output: Output
    fingerprint: Fingerprint
    plan: Plan
    todo: list[Shard]
    done: int  # shards of the plan, before


def _account(begun: _Begun, tally: Tally, fresh: Manifest) -> Summary:
    """Write the manifest, the summary and, when nothing is missing, `_SUCCESS`."""
    output, done = begun.output, set(fresh.urls)
    planned = settle(output, begun.plan, done)
    every = ledger(output, planned, fresh)
    committed = set(every.urls)
    if lost := [url for url in fresh.urls if url not in committed]:
        raise InfrastructureError(
            f"{output.url}: workers wrote {len(lost):,} parts that are not there, of {lost[0]} for one: it must be "
            "storage that all machines share"
        )
    summary = Summary(
        out=output.url,
        planned=len(planned),
        done_before=begun.done,
        run=tally.totals,
        seconds=time.monotonic() - begun.at,
        busy_seconds=tally.busy_seconds,
        failed_shards=tally.failed,
        dataset=every.totals,
        fingerprint=begun.fingerprint.digest,
        workers=tally.workers,
        price_per_hour=tally.price_per_hour,
        left=len(begun.todo) - len(done) - len(tally.failed),
    )
    if done or tally.failed or None in (output.read(SUCCESS), output.read(MANIFEST)):
        write_manifest(output, every)
        output.write(SUMMARY, json.dumps(summary.as_json(), indent=2).encode())
        before = {url: reason for url, reason in quarantined(output).items() if url not in committed}
        output.write(QUARANTINE, json.dumps(before | tally.failed, indent=2).encode())
        if summary.complete:
            output.write(SUCCESS, b"")
    if tally.stopped and summary.left:
        raise StoppedError(
            f"stopped with {summary.left:,} of {len(begun.todo):,} shards left; run the same command to go on"
        )
    tally.judge(summary)
    return summary
