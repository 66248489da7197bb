"""Bars on stderr: the progress of `embed`, and of a download."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    Task,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from ...pipeline.running.events import (
    DoneElsewhere,
    Event,
    FewerWorkers,
    MachineLeftOut,
    MachineSlow,
    Notice,
    Planned,
    Rows,
    ShardDone,
    ShardFailed,
    ShardLate,
    ShardRetried,
    Starting,
    Stopping,
    Waiting,
    WorkerLost,
    WorkerMoved,
    WorkerReplaced,
    WorkersAdded,
    WorkersStarted,
)
from ...pipeline.running.rows_seen import RowsSeen
from .amounts import counted
from .console import err
from .fitting import Fields, elapsed, fitting_bar, time_left
from .totals import named

if TYPE_CHECKING:
    from typing_extensions import Self


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
        self._bar = fitting_bar(err, _fields)
        self._task = self._bar.add_task("embedding", samples=0, speed=0.0, failed=0, visible=False)
        self._seen = RowsSeen()
        self._ready = 0.0

    def __call__(self, event: Event) -> None:
        task = self._bar.tasks[self._task]
        self._seen.take(event)
        if isinstance(event, Planned):
            self._planned(event)
        elif isinstance(event, Starting):
            self._starting(event)
        elif isinstance(event, WorkersStarted):
            self._ready = task.elapsed or 0.0
            self._bar.update(self._task, description="embedding")
        elif isinstance(event, Rows):
            self._count(task)
        elif isinstance(event, (ShardDone, ShardFailed)):
            self._advance(task, 1)
        elif isinstance(event, DoneElsewhere):
            self._advance(task, event.shards)
        if notice := _notice(event):
            err.print(notice)

    def _advance(self, task: Task, shards: int) -> None:
        self._bar.advance(self._task, shards)
        if task.finished:
            self._seen.settle()
            self._count(task)

    def _count(self, task: Task) -> None:
        seconds = max(1e-3, (task.elapsed or 0.0) - self._ready)
        seen = self._seen
        self._bar.update(self._task, samples=seen.rows, failed=seen.failed, speed=seen.rows / seconds)

    def _starting(self, event: Starting) -> None:
        if self._bar.live.is_started:
            self._bar.update(self._task, description=event.what)
        elif err.is_terminal:  # who does not look on need not know
            err.print(f"{event.what} …")

    def _planned(self, plan: Planned) -> None:
        done = f", {plan.done:,} done before" if plan.done else ""
        err.print(f"{counted(plan.shards, 'shard')}{done}; model {plan.model}, {plan.precision}")
        if plan.changed:
            have = "has" if plan.changed == 1 else "have"
            shards = counted(plan.changed, "shard")
            err.print(f"{shards} {have} changed since the last run; --refresh embeds what has changed again")
        self._bar.update(self._task, total=plan.todo, visible=plan.todo > 0, description="starting workers")
        if plan.todo and err.is_terminal:  # elsewhere it would leave an empty line
            self._bar.start()


def _fields(task: Task) -> Fields:
    told = task.fields
    rows = [f"{told['speed']:,.0f}/s", f"{told['samples']:,} samples"] if told["samples"] else []
    failed = [f"{told['failed']:,} failed"] if told["failed"] else []
    return Fields(
        f"{int(task.completed):,}/{int(task.total or 0):,} shards", failed + rows + [elapsed(task)], time_left(task)
    )


def _notice(event: Event) -> str | None:
    """A line for what a person should know of at once."""
    if isinstance(event, Notice):
        return event.text
    if isinstance(event, ShardFailed):
        return f"shard failed: {named(event.shard.url, event.reason)}"
    if isinstance(event, Waiting):
        return f"another run has the last {counted(event.shards, 'shard')} in hand; waiting for it"
    if isinstance(event, ShardRetried):
        return f"trying again: {named(event.shard.url, event.reason)}"
    if isinstance(event, ShardLate):
        return f"this shard is slower than the others, so a second worker tries it too: {event.shard.url}"
    if isinstance(event, WorkerLost):
        return f"a worker was lost and is replaced: {event.reason[:200]}"
    if isinstance(event, WorkerReplaced):
        return f"a worker is replaced: {event.reason[:200]}"
    if isinstance(event, MachineLeftOut):
        return f"machine {event.machine[:12]} is left out: {event.reason[:200]}"
    if isinstance(event, MachineSlow):
        return f"machine {event.machine[:12]} takes {event.times:,.0f} times as long for a shard as others do"
    if isinstance(event, WorkerMoved):
        again = f"; {counted(event.unfinished, 'shard')} of its work will be done again" if event.unfinished else ""
        return f"a machine is about to leave the cluster; its worker is replaced{again}"
    if isinstance(event, FewerWorkers):
        return f"{event.asked:,} workers were asked for; the cluster has room for {event.workers:,} now"
    if isinstance(event, WorkersAdded):
        return counted(event.workers, "more worker")
    if isinstance(event, Stopping) and event.in_hand:  # else the end, which says what is left, comes at once
        in_hand = counted(event.in_hand, "shard")
        if event.why:
            return f"{event.why} is near: finishing what can be of {in_hand} in hand"
        return f"finishing {in_hand} in hand; Ctrl-C again stops at once"
    return None


class DownloadProgress(Bar):
    """A bar that appears when bytes do, and is gone when they are all there; on a terminal alone."""

    def __init__(self, description: str = "downloading weights") -> None:
        self._bar = Progress(
            TextColumn(description),
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
