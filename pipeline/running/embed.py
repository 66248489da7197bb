"""The main job: list, plan, embed what is not committed yet, account for all of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from ...clipmodel.download import Progress
from ...clipmodel.formats import check_file
from ..dataset.claims import Claims, shared
from ..dataset.columns import columns_besides, parse_listed
from ..dataset.forgotten import REASON
from ..dataset.layout import SUCCESS
from ..dataset.ledger import ledger
from ..dataset.manifest import Manifest
from ..dataset.output import Output
from ..dataset.part import PartLayout
from ..dataset.plan import Fingerprint, Plan, freeze, read_plan
from ..dataset.summary import Summary, quarantined
from ..errors import TooManyFailuresError, UserError
from ..inputs.listing import list_shards, look_into
from ..job.embed import EmbedJob
from ..records import Shard
from ..redaction import redacted_text
from . import notebook
from .autoscaler import demanded
from .closing import RunPlan, close_run
from .cluster import check_answer, connected, gpu_kinds, machine_names
from .driver import run_shards
from .events import Event, FewerWorkers, Notice, Planned, ShardDone, ShardFailed, Starting
from .manifest_keeper import ManifestKeeper
from .metrics import Metrics
from .order import spread
from .precision import ASKS_THE_CLUSTER, check_machines, decide
from .run_models import RunModels
from .sources import Ahead
from .staff import find_placement, reader_pool, run_options, worker_factory
from .start_up import Stopwatch
from .tally import Tally
from .until import Limited

if TYPE_CHECKING:
    from ...clipmodel.seams import Card
    from ..embedding.settings import DatasetSettings

OnEvent = Callable[[Event], None]


def embed(
    job: EmbedJob,
    on_event: OnEvent = notebook.events,
    on_download: Progress | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Summary:
    """Embed every sample of the inputs into one Parquet part a shard; run again to resume.

    stop: called often; once it returns True, no more shards are given out, and StoppedError follows when those in hand
    are done. LimitReachedError follows at the job's deadline, or when its budget is spent. Raises UserError before any
    worker starts for what is wrong with the request, TooManyFailuresError when more samples or shards failed than the
    job allows (what was embedded stays), InfrastructureError when workers or the storage failed for good.
    """
    watch = Stopwatch()
    _check(job)
    until = Limited.of(job, watch.began, stop, machine_names)
    on_event(Starting("looking at the inputs"))
    shards, output = list_shards(job.inputs, job.storage_options), Output.at(job.out, job.storage_options)
    if not (there := output.parts(shards)):
        output.refuse_earlier()
        _look_into(shards, job, on_event)
    if missing := job.replaces_parts or any(shard.part_name not in there for shard in shards):
        check_answer(job.address)
    output = output.prepare()
    with ExitStack() as stack:
        cluster = partial(connected, job.address) if missing else nullcontext
        on_event(Starting("starting Ray, reading the model" if missing else "reading the model"))
        models = _beside(cluster, stack, partial(RunModels.find, job, on_download, watch), watch)
        claims = stack.enter_context(_at_work(job, output, on_event, stop))
        before = read_plan(output)
        layout = _layout(job, models.cards, before)
        if before is None and job.precision in ASKS_THE_CLUSTER:
            stack.enter_context(connected(job.address))
            stack.enter_context(demanded(job.workers, job.gpus_per_worker))
            check_machines(job.precision, find_placement(job, len(shards)), gpu_kinds())  # before the plan is frozen
        precision = decide(job, before, models.cards.values())
        fingerprint = Fingerprint.of(models.cards, precision, layout, job).going_on(before)
        run = _plan(job, shards, output, fingerprint, watch)
        tally, keeper = Tally(job), stack.enter_context(ManifestKeeper(output))
        counts = (len(run.todo), len(run.plan.changed))
        planned = Planned(len(run.plan.shards), run.done_before, models.names, precision, *counts)
        watch.lap("planned")
        on_event(planned)
        if run.todo:
            metrics = stack.enter_context(Metrics(redacted_text(output.url)))
            metrics.see(planned)
            claims.plan(run.todo, run.committed)
            observers = (on_event, metrics.see, keeper.see, tally.see, _seen_by(claims))
            _embed_shards(job, run, claims, models.settings(precision, layout, fingerprint), until, tally, observers)
    return close_run(run, tally, keeper, until)


def _beside(
    cluster: Callable[[], AbstractContextManager[None]],
    stack: ExitStack,
    find: Callable[[], RunModels],
    watch: Stopwatch,
) -> RunModels:
    """The models, which are read while Ray starts. One that is refused is the reason before a cluster that fails."""
    with ThreadPoolExecutor(1, thread_name_prefix="models") as pool:
        reading = pool.submit(find)
        try:
            with watch.stage("cluster"):
                stack.enter_context(cluster())
        except Exception:
            reading.result()
            raise
        return reading.result()


def _check(job: EmbedJob) -> None:
    """UserError for what can be seen to be wrong without a cluster, and without PyTorch."""
    job.check()
    columns_besides(job.columns)
    for model in job.models:
        check_file(model.spec)


def _look_into(shards: Sequence[Shard], job: EmbedJob, on_event: OnEvent) -> None:
    """Look at the first samples, before models are read. UserError where none of them is a pair, though both sides are
    wanted."""
    look = look_into(shards, job.storage_options, job.sample_keys)
    if not job.allow_half_pairs:
        look.refuse_half_pairs(job.images, job.texts)
    if notice := look.notice():
        on_event(Notice(notice))


@contextmanager
def _at_work(
    job: EmbedJob, output: Output, on_event: OnEvent, stop: Callable[[], bool]
) -> Generator[Claims, None, None]:
    """Among the runs that are at work in the output: this one shares the shards with them. One that replaces parts lets
    them end first."""
    with shared(output) as claims:
        if job.replaces_parts:
            for number, other in enumerate(claims.wait(stop)):
                if not number:
                    on_event(Notice(f"{other}, is embedding into this output; waiting for its end"))
        elif others := claims.others:
            more = f" (and {len(others) - 1} more)" if len(others) > 1 else ""
            on_event(Notice(f"{others[0]}{more}, is embedding into this output, too; sharing the shards"))
        yield claims


def _seen_by(claims: Claims) -> OnEvent:
    def see(event: Event) -> None:
        if isinstance(event, (ShardDone, ShardFailed)):
            claims.done(event.shard)

    return see


def _embed_shards(
    job: EmbedJob,
    run: RunPlan,
    claims: Claims,
    settings: DatasetSettings,
    until: Limited,
    tally: Tally,
    observers: Sequence[OnEvent],
) -> None:
    """Embed what the run claims of its shards on the connected cluster; observers see every event. Where the tally
    breaks the run off, it keeps the reason for the end."""
    with demanded(job.workers, job.gpus_per_worker) as demand, Ahead(claims) as source:
        placement = find_placement(job, len(run.todo))
        check_machines(settings.precision, placement, gpu_kinds())
        run.output.delete(SUCCESS)
        if placement.workers < min(job.workers or 0, len(run.todo)):
            observers[0](FewerWorkers(job.workers or 0, placement.workers))
        if kinds := until.unpriced():
            observers[0](Notice(f"no price for machines of the kind {', '.join(kinds)}: they count as free"))
        observers[0](Starting("starting workers" + (", which may compile the model" if placement.gpus else "")))
        factory = worker_factory(job, run, settings, placement)
        options = run_options(job, until, len(run.todo), placement, demand)
        if placement.readers:
            options = replace(options, readers=reader_pool(factory, demand))
        try:
            for event in run_shards(source, factory, placement, options):
                for see in observers:
                    see(event)
        except TooManyFailuresError as error:
            tally.over = error


def _plan(
    job: EmbedJob, shards: Sequence[Shard], output: Output, fingerprint: Fingerprint, watch: Stopwatch
) -> RunPlan:
    committed = output.parts(shards)
    plan = freeze(output, fingerprint, shards, committed)
    done = sum(shard.part_name in committed for shard in plan.shards)
    failed = _failed(output, plan) if job.retry_failed else None
    return RunPlan(watch, output, fingerprint, plan, _todo(job, plan, committed, failed), done, committed, failed)


def _todo(job: EmbedJob, plan: Plan, committed: Collection[str], failed: Mapping[str, int] | None) -> list[Shard]:
    """The shards that this run embeds, of those that the job names, in the order in which they are given out."""
    changed = {shard.url for shard in plan.changed} if job.refresh else set()
    if failed is not None:
        return spread(shard for shard in plan.listed if shard.url in failed or shard.url in changed)
    return spread(shard for shard in plan.listed if shard.part_name not in committed or shard.url in changed)


def _failed(output: Output, plan: Plan) -> dict[str, int]:
    """Shards with failures -> rows that failed; of a shard that could not be read, none are known."""
    manifest = ledger(output, plan.shards, Manifest.of())
    failed = {stats.url: stats.failed - stats.failures[REASON] for stats in manifest}  # what was purged is no failure
    return dict.fromkeys(quarantined(output), 0) | {url: rows for url, rows in failed.items() if rows}


def _layout(job: EmbedJob, cards: Mapping[str, Card], begun: Fingerprint | None) -> PartLayout:
    columns = columns_besides(job.columns, parse_listed(begun.columns) if begun else ())
    dims = tuple((alias, card.embed_dim) for alias, card in cards.items())
    context = next(iter(cards.values())).context_length
    layout = PartLayout(columns, sum(dim for _, dim in dims), context, job.embedding_type, dims)
    if twice := [name for name, count in Counter(layout.schema.names).items() if count > 1]:
        raise UserError(f"--column {twice[0]}: the part has a column of that name already")
    return layout
