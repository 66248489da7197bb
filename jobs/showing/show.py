"""What people see: progress on stderr, results on stdout."""

from __future__ import annotations

import json
from collections import Counter
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from ...clipmodel.config import VARIANTS
from ...clipmodel.sources import releases
from ...pipeline.dataset.summary import Status, Summary
from ...pipeline.dataset.totals import Totals
from ...pipeline.running.events import (
    Event,
    FewerWorkers,
    Planned,
    Rows,
    ShardDone,
    ShardFailed,
    ShardLate,
    ShardRetried,
    Stopping,
    WorkerLost,
    WorkerMoved,
    WorkersAdded,
    WorkersStarted,
)
from .amounts import counted, every, size

if TYPE_CHECKING:
    from typing_extensions import Self

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


class Bar:
    """A progress bar that whoever uses it starts, and that is gone at the end whatever happens."""

    _bar: Progress

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self._bar.live.is_started:  # stopping prints an empty line
            self._bar.stop()


class EmbedProgress(Bar):
    """Turns the events of `embed` into a bar: shards, samples, samples/s, failures, time left."""

    def __init__(self) -> None:
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("shards · {task.fields[samples]:,} samples · {task.fields[speed]:,.0f}/s"),
            TextColumn("· {task.fields[failed]:,} failed ·"),
            TimeElapsedColumn(),
            TextColumn("· left"),
            TimeRemainingColumn(),
            console=err,
        )
        self._task = self._bar.add_task("embedding", samples=0, speed=0.0, failed=0, visible=False)
        self._samples = self._failed = 0
        self._ready = 0.0

    def __call__(self, event: Event) -> None:
        task = self._bar.tasks[self._task]
        if isinstance(event, Planned):
            self._planned(event)
        elif isinstance(event, WorkersStarted):
            self._ready = task.elapsed or 0.0
            self._bar.update(self._task, description="embedding")
        elif isinstance(event, Rows):
            self._samples += event.embedded + event.failed
            self._failed += event.failed
            seconds = max(1e-3, (task.elapsed or 0.0) - self._ready)
            self._bar.update(self._task, samples=self._samples, failed=self._failed, speed=self._samples / seconds)
        elif isinstance(event, (ShardDone, ShardFailed)):
            self._bar.advance(self._task)
        if notice := _notice(event):
            err.print(notice, markup=False)

    def _planned(self, plan: Planned) -> None:
        done = f", {plan.done:,} done before" if plan.done else ""
        err.print(f"{counted(plan.shards, 'shard')}{done}; model {plan.model}, {plan.precision}", markup=False)
        if plan.changed:
            have = "has" if plan.changed == 1 else "have"
            shards = counted(plan.changed, "shard")
            err.print(f"{shards} {have} changed since embedded; --refresh embeds again what has changed", markup=False)
        self._bar.update(self._task, total=plan.todo, visible=plan.todo > 0, description="starting workers")
        if plan.todo and err.is_terminal:  # elsewhere it would leave an empty line
            self._bar.start()


def _notice(event: Event) -> str | None:
    """A line for what a person should know of at once."""
    if isinstance(event, ShardFailed):
        return f"shard failed: {named(event.shard.url, event.reason)}"
    if isinstance(event, ShardRetried):
        return f"trying again: {named(event.shard.url, event.reason)}"
    if isinstance(event, ShardLate):
        return f"slower than the others, so a second worker tries it too: {event.shard.url}"
    if isinstance(event, WorkerLost):
        return f"a worker was lost and is replaced: {event.reason[:200]}"
    if isinstance(event, WorkerMoved):
        rest = (
            f"; begun again, of what it had in hand: {counted(event.unfinished, 'shard')}" if event.unfinished else ""
        )
        return f"a machine is about to leave the cluster, its worker is replaced{rest}"
    if isinstance(event, FewerWorkers):
        return f"{event.asked:,} workers were asked for; the cluster has room for {event.workers:,} now"
    if isinstance(event, WorkersAdded):
        return counted(event.workers, "more worker")
    if isinstance(event, Stopping) and event.in_hand:  # else the end, which says what is left, comes at once
        return f"finishing {counted(event.in_hand, 'shard')} in hand; Ctrl-C again stops at once"
    return None


class DownloadProgress(Bar):
    """A bar that appears when bytes do, and is gone when they are all there; on a terminal alone."""

    def __init__(self, doing: str = "downloading weights") -> None:
        self._bar = Progress(
            TextColumn(doing),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=err,
            transient=True,
        )
        self._task = self._bar.add_task("", total=None)

    def __call__(self, done: int, total: int | None) -> None:
        if not err.is_terminal:  # it would leave an empty line
            return
        self._bar.start()
        self._bar.update(self._task, completed=done, total=total)
        if total is not None and done >= total:
            self._bar.stop()


def show_summary(summary: Summary) -> None:
    run, dataset = summary.run, summary.dataset
    if not run.shards and not summary.failed_shards:
        missing = summary.planned - summary.dataset.shards
        if missing:
            out.print(f"nothing to do of what was asked; {missing:,} of {summary.planned:,} planned shards are left")
        else:
            out.print(f"nothing to do: {every(summary.planned, 'shard')} embedded already")
    else:
        speed = f", {summary.samples_per_second:,.1f}/s once started" if summary.samples_per_second else ""
        out.print(
            f"embedded {run.embedded:,} of {run.rows:,} samples in {counted(run.shards, 'shard')}, "
            f"{summary.seconds:,.1f} s{speed} ({_busy(run)})",
            markup=False,
        )
        _show_cost(summary.cost_per_million, summary.cost)
    _show_dataset(dataset, summary.planned, summary.failed_shards)
    out.print(f"in {summary.out}", markup=False)


def show_status(status: Status) -> None:
    out.print(f"{status.out}: {'complete' if status.complete else 'not complete'}", markup=False)
    out.print(f"model       {status.model}", markup=False)
    failed = len(status.failed_shards)
    out.print(
        f"shards      {status.planned:,} planned, {status.dataset.shards:,} committed, {failed:,} failed, "
        f"{status.left:,} left",
        markup=False,
    )
    _show_dataset(status.dataset, status.planned, status.failed_shards)
    if status.dataset.seconds["worker"]:
        speed = status.dataset.rows / status.dataset.seconds["worker"]
        out.print(f"throughput  {speed:,.1f} samples/s a worker ({_busy(status.dataset)})", markup=False)
    _show_cost(status.cost_per_million)
    if status.left:
        out.print("run the same `clipmill embed` again to go on", markup=False)


def _show_dataset(totals: Totals, planned: int, failed_shards: dict[str, str]) -> None:
    out.print(
        f"dataset     {totals.rows:,} rows = {totals.embedded:,} embedded + {totals.failed:,} failed, "
        f"{totals.shards:,} of {counted(planned, 'shard')}, {size(totals.part_bytes)}",
        markup=False,
    )
    show_failures(totals.failures)
    for url, reason in list(failed_shards.items())[:10]:
        out.print(f"  shard failed: {named(url, reason)}", markup=False)


def named(url: str, reason: str) -> str:
    """Many reasons begin with the URL."""
    return reason if reason.startswith(url) else f"{url}: {reason}"


def show_failures(failures: Counter[str]) -> None:
    for reason, count in failures.most_common(20):
        out.print(f"  {count:>7,}  {reason}", markup=False)


def _show_cost(a_million: float | None, whole: float | None = None) -> None:
    if a_million is not None:
        run = f", {whole:,.2f} for this run" if whole is not None else ""
        out.print(f"cost        {a_million:,.2f} a million pairs{run}", markup=False)


def _busy(totals: Totals) -> str:
    if not totals.bottleneck:
        return "no work"
    shares = ", ".join(f"{stage} {share:.0%}" for stage, share in totals.utilisation.items())
    flop = f"; {totals.flop_utilisation:.0%} of the encoder's peak FLOP" if totals.flop_utilisation else ""
    return f"busy: {shares}; bottleneck: {totals.bottleneck}{flop}"


def show_models() -> None:
    """One line a variant, however long: who greps these lines wants whole names."""
    row = "{:<23} {:<7} {:<20} {:<10} {}".format
    out.print(row("variant", "image", "encoder", "embedding", "weights"), markup=False)
    for name, config in VARIANTS.items():
        vision = config.vision
        kind = f"ResNet, width {vision.width}" if vision.is_resnet else f"ViT/{vision.patch_size}, width {vision.width}"
        tags = ", ".join(releases(name)) or "-"
        out.print(row(name, f"{vision.image_size} px", kind, config.embed_dim, tags), markup=False)
    out.print("\nUse NAME for the first of its weights, NAME=WEIGHTS for another, NAME=random for none, or NAME=FILE.")


def show_releases(name: str, as_json: bool) -> None:
    found = {}
    for tag, release in releases(name).items():
        where = f"https://huggingface.co/{release.repo}" if release.repo else release.file or "shipped with clipmill"
        found[tag] = {"from": where, "sha256": release.sha256, "activation": release.activation}
    if as_json:
        print(json.dumps(found))
        return
    if not found:
        out.print(f"{name}: no published weights are known; use {name}=FILE or {name}=random", markup=False)
    for tag, facts in found.items():
        out.print(f"{name}={tag:<28} {facts['from']}", markup=False)
