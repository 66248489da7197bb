"""Which rows of a dataset stay: conditions in SQL, recipes, the best share; and why the others went."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np

from ..dataset.sortable import Counts, Keys
from ..dataset.subset import Funnel, Subset, begin_subset, finish_subset
from ..job.filter import FilterJob
from ..job.readable import Result
from ..running import notebook
from ..running.scatter import scatter
from ..running.stages import OnStage, Stage, counted
from .kth import kth_largest
from .parts import CollectScores, CountScores, Group, KeepRows, groups_of
from .recipes import Step, at_least, in_top
from .reference import near_reference
from .request import FilterRequest
from .rows import Rows
from .uids import write_uids

R = TypeVar("R")


@dataclass(frozen=True)
class FilterSummary(Result):
    """What `filter` returns."""

    out: str  # empty where nothing was to be written
    dataset: str
    funnel: Funnel
    done_before: bool
    uids: str | None  # the file that was written
    seconds: float

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "seconds": round(self.seconds, 3)}


def filter(job: FilterJob, on_stage: OnStage = notebook.stages) -> FilterSummary:
    """The rows for which every condition holds, as a subset; run again when the dataset has grown.

    A row counts as dropped by the first condition that does not hold, in this order: it failed to embed, `where` in
    the order given, the recipe's, the threshold, the top fraction. Null is never kept, and NaN counts as null.

    The top fraction is of all rows with a score (in the subset `within`, where one is given), whatever else drops them.
    As in DataComp, of n scores the threshold is the one at index int(n * fraction), from 0, in descending order,
    and every row at or above it stays: one more than int(n * fraction) where scores differ, and all that tie
    with the last. NaN and null are no scores. The threshold is exact at any size; see `kth.py`.

    UserError for what is wrong with the request, PlanMismatchError where OUT was begun with others.
    """
    began = time.monotonic()
    request = FilterRequest.of(job)
    if job.count:
        funnel = _funnel(request, on_stage)
        return FilterSummary("", request.dataset.url, funnel, False, None, time.monotonic() - began)
    todo = begin_subset(request.output, "filter", request.dataset, request.settings, job.overwrite)
    subset = _filter(request, on_stage) if todo else Subset.open(request.output.url, job.storage_options)
    if job.uids is not None:
        write_uids(request.dataset, subset, job.uids, job.storage_options)
    seconds = time.monotonic() - began
    return FilterSummary(request.output.url, request.dataset.url, subset.funnel, not todo, job.uids, seconds)


def _filter(request: FilterRequest, on_stage: OnStage) -> Subset:
    return finish_subset(request.output, request.dataset, _funnel(request, on_stage))


def _funnel(request: FilterRequest, on_stage: OnStage) -> Funnel:
    """Counts what stays and what goes, and writes it unless it is only to be counted."""
    job, dataset = request.job, request.dataset
    functions = []
    if request.reference is not None:
        on_stage(Stage("finding the reference's cells", "parts", 0, len(request.reference.parts)))
        functions = [near_reference(dataset, job.alias, request.reference, job.cells, job.address)]
    rows = request.rows(*functions)
    steps = [*request.steps, *_score_steps(request, rows, on_stage)]
    steps = list(dict.fromkeys(steps))  # a recipe may have the job's own conditions, too
    keep = KeepRows(rows, tuple(steps), tuple(dict.fromkeys(job.columns)), None if job.count else request.output)
    total, dropped, kept = 0, Counter[int](), 0
    for counts in _over_parts(keep, request, "filtering", on_stage):
        total, kept = total + counts.rows, kept + counts.kept
        dropped.update(counts.dropped)
    reasons = {step.reason: dropped[index] for index, step in enumerate(steps)}
    return Funnel(total, reasons, kept)


def _score_steps(request: FilterRequest, rows: Rows, on_stage: OnStage) -> list[Step]:
    job, by = request.job, request.by
    steps: list[Step] = []
    if job.threshold is not None:
        steps += at_least(by, job.threshold)
    if job.top_fraction is not None:
        steps += _best_share(request, job.top_fraction, rows, on_stage)
    return steps


def _best_share(request: FilterRequest, share: float, rows: Rows, on_stage: OnStage) -> list[Step]:
    by = request.by

    def count(prefix: int, digit: int) -> Counts:
        counting = CountScores(rows, by, prefix, digit)
        return sum(_over_parts(counting, request, f"ranking by {by}", on_stage), np.zeros(1 << 16, np.int64))

    def collect(prefix: int, digit: int) -> Iterator[Keys]:
        return _over_parts(CollectScores(rows, by, prefix, digit), request, f"ranking by {by}", on_stage)

    # as in DataComp, int() rounds down; a share of 1.0 has no next score
    threshold = kth_largest(lambda scores: min(int(scores * share), scores - 1), count, collect)
    return list(in_top(by, share, threshold))


def _over_parts(work: Callable[[Group], R], request: FilterRequest, name: str, on_stage: OnStage) -> Iterator[R]:
    parts = request.dataset.parts
    spread = scatter(work, groups_of(parts), request.job.address)
    for _, result in counted(spread, name, "parts", len(parts), on_stage, weigh=lambda done: len(done[0])):
        yield result
