"""Which rows of a dataset stay: conditions in SQL, recipes, the best share; and why the others went."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

from ..dataset.subset import Funnel, Subset, begin_subset, finish_subset
from ..job.filter import FilterJob
from ..job.readable import Result
from ..running import notebook
from ..running.stages import OnStage
from .judging import judge
from .request import FilterRequest
from .uids import write_uids


@dataclass(frozen=True)
class FilterSummary(Result):
    """What `filter` returns."""

    out: str  # empty where nothing was to be written
    dataset: str
    funnel: Funnel
    done_before: bool
    uids: str | None  # the file that was written
    seconds: float
    parts: int
    parts_done_before: int = 0  # by earlier runs: their files stayed as they were

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

    Of a dataset that has grown, parts that earlier runs have judged stay as they are, unless a condition looks at other
    rows; of the best share, but for rows with scores between the threshold of then and that of now.

    UserError for what is wrong with the request, PlanMismatchError where OUT was begun with others.
    """
    began = time.monotonic()
    request = FilterRequest.of(job)
    if job.count:
        counted, parts = judge(request, on_stage), len(request.dataset.parts)
        return FilterSummary("", request.dataset.url, counted.funnel, False, None, time.monotonic() - began, parts)
    todo = begin_subset(request.output, "filter", request.dataset, request.settings, job.overwrite)
    parts = len(request.dataset.parts)
    if todo:
        judged = judge(request, on_stage)
        subset = finish_subset(request.output, request.dataset, judged.funnel, judged.written)
        fresh = judged.parts
    else:
        subset, fresh = Subset.open(request.output.url, job.storage_options), 0
    if job.uids is not None:
        write_uids(request.dataset, subset, job.uids, job.storage_options)
    seconds, url = time.monotonic() - began, request.output.url
    return FilterSummary(url, request.dataset.url, subset.funnel, not todo, job.uids, seconds, parts, parts - fresh)
