"""Judging the rows of a dataset by the conditions of a job, on a cluster; only those that earlier runs have not."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ..dataset.narrow import narrowed
from ..dataset.output import Output
from ..dataset.sql import column_of, only_named
from ..dataset.subset import IDENTITY, Funnel
from ..running.narrow_table import with_narrow_table
from ..running.stages import OnStage, Stage
from .moving import KeepOrMove, MoveThreshold, Passed, cores_of, passed_in
from .needs import Needs, needs_of
from .parts import KeepRows, PartCounts
from .progress import Progress
from .recipes import Step, at_least, in_top
from .request import FilterRequest
from .rows import Rows
from .runs import Run, runs_of
from .share import PassedRows, Threshold, best_share, passed_parts
from .spread import Spread

_SAVED = 30.0  # seconds between two notes of what is done


@dataclass(frozen=True)
class Judged:
    funnel: Funnel
    parts: int  # judged by this run, or changed since the threshold of the best share has moved
    written: frozenset[str]  # all parts that have rows


@dataclass(frozen=True)
class _Move:
    """Of the threshold of the best share, since the last run."""

    column: str
    last: float
    now: float
    passed: Mapping[str, PassedRows]  # by part


def judge(request: FilterRequest, on_stage: OnStage) -> Judged:
    """Counts what stays and what goes, and writes it unless it is only to be counted."""
    job, by = request.job, request.by
    needs, spread = _needs(request), Spread(job.address, on_stage)
    rows = _rows(request, needs, on_stage)
    progress, threshold, move = _progress(request, needs), None, None
    if job.top_fraction is not None:
        table = narrowed(request.dataset) if needs.embeddings else rows.dataset
        labels = None if by in table.types else rows.labels
        table = only_named(table, [by])
        scores = replace(rows, dataset=table, labels=labels, functions=(), names_pairs=False)
        best = best_share(scores, by, job.top_fraction, spread)
        threshold, move = best.score, _move(progress, scores, by, best, spread)
    steps = _steps(request, threshold)
    parts = _keep(progress, rows, _keeping(request, rows, steps), move, spread)
    *dropped, kept = progress.counts.sum(axis=0).tolist()
    reasons = {step.reason: count for step, count in zip(steps, dropped, strict=True)}
    return Judged(Funnel(sum(dropped) + kept, reasons, kept), parts, progress.written)


def _steps(request: FilterRequest, threshold: float | None = None) -> tuple[Step, ...]:
    """All conditions in order. threshold: of the best share, where that is asked for."""
    job, steps, value = request.job, list(request.steps), column_of(request.dataset, request.by)
    if job.threshold is not None:
        steps += at_least(request.by, job.threshold, value=value)
    if job.top_fraction is not None:
        steps += in_top(request.by, job.top_fraction, threshold, value)
    return tuple(dict.fromkeys(steps))  # a recipe may have the job's own conditions, too


def _needs(request: FilterRequest) -> Needs:
    needs = needs_of((step.condition for step in _steps(request)), request.narrow_columns)
    return replace(needs, rows=needs.rows or request.reference is not None)


def _rows(request: FilterRequest, needs: Needs, on_stage: OnStage) -> Rows:
    """The rows that conditions see: from the narrow table, unless they look at embeddings."""
    job, dataset, functions = request.job, request.dataset, []
    if request.reference is not None:
        from .reference import near_reference  # with torch, which takes a second

        on_stage(Stage("finding the reference's cells", "parts", 0, len(request.reference.parts)))
        functions = [near_reference(dataset, job.alias, request.reference, job.cells, job.address)]
    rows = request.rows(*functions)
    dataset = rows.dataset
    if needs.embeddings:
        return rows
    if job.count:  # which writes nothing
        return replace(rows, dataset=narrowed(dataset))
    return replace(rows, dataset=with_narrow_table(dataset, job.address, on_stage))


def _progress(request: FilterRequest, needs: Needs) -> Progress:
    """What earlier runs have done that is of use still."""
    dataset, labels, within = request.dataset, request.labels, request.within
    stamps = list(map(str, dataset.stamps))
    if labels is not None:
        stamps = [f"{stamp} {of_labels}" for stamp, of_labels in zip(stamps, labels.sizes, strict=True)]
    for side in dataset.sides:
        stamps = [f"{stamp} {side.stamp(part)}" for stamp, part in zip(stamps, dataset.parts, strict=True)]
    steps = _steps(request)
    conditions = {
        "steps": [[step.reason, step.condition] for step in steps],
        "labels": labels.settings if labels else None,
        "within": within.identity if within else None,
        **({"joined": [side.option for side in dataset.sides]} if dataset.sides else {}),
    }
    progress = Progress.begin(dataset.parts, stamps, conditions, len(steps) + 1)
    if not needs.rows and not request.job.count:
        progress.load(request.output)
    return progress


def _move(progress: Progress, rows: Rows, by: str, best: Threshold, spread: Spread) -> _Move | None:
    """Where the threshold moves, what that changes in parts that are done. All of them are to be judged again where no
    row had a score, or none has one now."""
    last, progress.threshold = progress.threshold, best.score
    if not progress.done or best.score == last:
        return None
    if best.score is None or last is None:
        progress.forget(progress.done)
        return None
    done = replace(rows, dataset=rows.dataset.only(progress.done))
    return _Move(by, last, best.score, passed_parts(done, by, last, best, spread))


def _keeping(request: FilterRequest, rows: Rows, steps: tuple[Step, ...]) -> KeepRows:
    job, names = request.job, request.dataset.schema.names
    columns = dict.fromkeys(job.columns)
    own = tuple(dict.fromkeys(name for name in (*IDENTITY, *columns) if name in names))
    beside = tuple(name for name in columns if request.dataset.side_of(name))
    of_labels = tuple(name for name in columns if name not in names and name not in beside)
    return KeepRows(rows.for_runs(), steps, own, of_labels, beside, None if job.count else request.output)


def _keep(progress: Progress, rows: Rows, keep: KeepRows, move: _Move | None, spread: Spread) -> int:
    """Judges the parts that are to be judged, and changes those where the threshold has passed rows. How many these
    are. What is known of the others is noted before any file changes."""
    passed = move.passed if move else {}
    in_table = {part for file in rows.dataset.narrow for part in file.parts}.intersection(passed)
    before = dict(zip(passed, progress.forget(passed), strict=True))
    parts, todo = len(progress.todo), [part for part in progress.todo if part not in in_table]
    moving, items = None, list[Run | Passed]()
    if move is not None:
        moving = MoveThreshold(keep, move.column, move.last, move.now)
        items += passed_in(rows.dataset, {part: passed[part] for part in in_table}, before)
    items += runs_of(rows.dataset.only(todo))
    judged = spread("filtering", KeepOrMove(keep, moving), items, cores_of)
    _note(progress, keep.output, ((item.parts, counts) for item, counts in judged))
    return parts


def _note(progress: Progress, output: Output | None, results: Iterable[tuple[Sequence[str], PartCounts]]) -> None:
    """Takes the counts of parts as they come, and saves what is done now and then."""
    if output is not None:
        progress.save(output)
    saved = time.monotonic()
    for parts, counts in results:
        progress.add(parts, counts)
        if output is not None and time.monotonic() - saved > _SAVED:
            progress.save(output)
            saved = time.monotonic()
    if output is not None:
        progress.save(output)
