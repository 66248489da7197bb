"""Judging the rows of a dataset by the conditions of a job, on a cluster; only those that earlier runs have not."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from ..dataset.dataset import Dataset
from ..dataset.narrow import narrowed
from ..dataset.sortable import Counts, Keys
from ..dataset.subset import IDENTITY, Funnel
from ..running.narrow_table import with_narrow_table
from ..running.scatter import scatter
from ..running.stages import OnStage, Stage, counted
from .kth import kth_largest
from .needs import Needs, needs_of
from .parts import CollectScores, CountScores, KeepRows, PartsBetween
from .progress import Progress
from .recipes import Step, at_least, in_top
from .reference import near_reference
from .request import FilterRequest
from .rows import Rows
from .runs import Run, runs_of

R = TypeVar("R")

_SAVED = 30.0  # seconds between two notes of what is done


@dataclass(frozen=True)
class Judged:
    funnel: Funnel
    parts: int  # judged by this run


def judge(request: FilterRequest, on_stage: OnStage) -> Judged:
    """Counts what stays and what goes, and writes it unless it is only to be counted."""
    job, by = request.job, request.by
    needs = _needs(request)
    rows = _rows(request, needs, on_stage)
    progress = _progress(request, needs)
    threshold = None
    if job.top_fraction is not None:
        table = narrowed(request.dataset) if needs.embeddings else rows.dataset
        labels = None if by in table.schema.names else rows.labels
        scores = replace(rows, dataset=table, labels=labels, functions=(), names_pairs=False)
        threshold = _best_share(request, scores, job.top_fraction, on_stage)
        _forget(progress, scores, by, threshold, _Spread(request, "comparing with the last threshold", on_stage))
    steps = _steps(request, threshold)
    parts = len(progress.todo)
    _keep(request, progress, rows, steps, on_stage)
    *dropped, kept = progress.counts.sum(axis=0).tolist()
    reasons = {step.reason: count for step, count in zip(steps, dropped, strict=True)}
    return Judged(Funnel(sum(dropped) + kept, reasons, kept), parts)


def _steps(request: FilterRequest, threshold: float | None = None) -> tuple[Step, ...]:
    """All conditions in order. threshold: of the best share, where that is asked for."""
    job, steps = request.job, list(request.steps)
    if job.threshold is not None:
        steps += at_least(request.by, job.threshold)
    if job.top_fraction is not None:
        steps += in_top(request.by, job.top_fraction, threshold)
    return tuple(dict.fromkeys(steps))  # a recipe may have the job's own conditions, too


def _needs(request: FilterRequest) -> Needs:
    needs = needs_of((step.condition for step in _steps(request)), request.narrow_columns)
    return replace(needs, rows=needs.rows or request.reference is not None)


def _rows(request: FilterRequest, needs: Needs, on_stage: OnStage) -> Rows:
    """The rows that conditions see: from the narrow table, unless they look at embeddings."""
    job, dataset, functions = request.job, request.dataset, []
    if request.reference is not None:
        on_stage(Stage("finding the reference's cells", "parts", 0, len(request.reference.parts)))
        functions = [near_reference(dataset, job.alias, request.reference, job.cells, job.address)]
    rows = request.rows(*functions)
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
    steps = _steps(request)
    conditions = {
        "steps": [[step.reason, step.condition] for step in steps],
        "labels": labels.settings if labels else None,
        "within": within.identity if within else None,
    }
    progress = Progress.begin(dataset.parts, stamps, conditions, len(steps) + 1)
    if not needs.rows and not request.job.count:
        progress.load(request.output)
    return progress


@dataclass(frozen=True)
class _Spread:
    """Work on the rows of some parts, on a cluster. name: of the stage."""

    request: FilterRequest
    name: str
    on_stage: OnStage

    def __call__(self, work: Callable[[Run], R], dataset: Dataset) -> Iterator[tuple[Run, R]]:
        if runs := runs_of(dataset):
            spread, total = scatter(work, runs, self.request.job.address), len(dataset.parts)
            yield from counted(spread, self.name, "parts", total, self.on_stage, weigh=lambda done: len(done[0].parts))


def _best_share(request: FilterRequest, rows: Rows, share: float, on_stage: OnStage) -> float | None:
    """The least score of the best share; None where no row has one."""
    by, spread = request.by, _Spread(request, f"ranking by {request.by}", on_stage)

    def count(prefix: int, digit: int) -> Counts:
        known, dataset = (_from_histograms(rows, by)) if digit == 0 else ([], rows.dataset)
        counting = CountScores(rows.for_runs(), by, prefix, digit)
        return sum((*known, *(counts for _, counts in spread(counting, dataset))), np.zeros(1 << 16, np.int64))

    def collect(prefix: int, digit: int) -> Iterator[Keys]:
        return (keys for _, keys in spread(CollectScores(rows.for_runs(), by, prefix, digit), rows.dataset))

    # as in DataComp, int() rounds down; a share of 1.0 has no next score
    return kth_largest(lambda scores: min(int(scores * share), scores - 1), count, collect)


def _from_histograms(rows: Rows, by: str) -> tuple[list[Counts], Dataset]:
    """The counts that the narrow table knows, and the dataset of the parts that it does not know."""
    if rows.within is not None:
        return [], rows.dataset
    counts = [(file, file.counts(by)) for file in rows.dataset.narrow]
    in_table = {part for file, known in counts if known is not None for part in file.parts}
    left = rows.dataset.only([part for part in rows.dataset.parts if part not in in_table])
    return [known for _, known in counts if known is not None], left


def _forget(progress: Progress, rows: Rows, by: str, threshold: float | None, spread: _Spread) -> None:
    """Parts of which other rows stay by this threshold than by the one before are to be judged again."""
    before, progress.threshold = progress.threshold, threshold
    if not progress.done or threshold == before:
        return
    if threshold is None or before is None:
        progress.forget(progress.done)
        return
    between = PartsBetween(rows.for_runs(), by, min(threshold, before), max(threshold, before))
    for _, parts in spread(between, rows.dataset.only(progress.done)):
        progress.forget(parts)


def _keep(request: FilterRequest, progress: Progress, rows: Rows, steps: tuple[Step, ...], on_stage: OnStage) -> None:
    """Judges the parts that are to be judged. What is known of the others is noted before any file changes."""
    job, names = request.job, request.dataset.schema.names
    columns = dict.fromkeys(job.columns)
    own = tuple(dict.fromkeys(name for name in (*IDENTITY, *columns) if name in names))
    of_labels = tuple(name for name in columns if name not in names)
    output = None if job.count else request.output
    keep = KeepRows(rows.for_runs(), steps, own, of_labels, output)
    if output is not None:
        progress.save(output)
    saved = time.monotonic()
    for run, counts in _Spread(request, "filtering", on_stage)(keep, rows.dataset.only(progress.todo)):
        progress.add(run.parts, counts)
        if output is not None and time.monotonic() - saved > _SAVED:
            progress.save(output)
            saved = time.monotonic()
    if output is not None:
        progress.save(output)
