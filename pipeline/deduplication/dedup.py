"""A subset without duplicates: equal files first, then embeddings that are near each other (SemDeDup)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..dataset.subset import Funnel, Subset, begin_subset, finish_subset
from ..job.dedup import DedupJob
from ..job.readable import Result
from ..running import notebook
from ..running.stages import OnStage
from .contents import PAIR, Counts
from .groups import sizes
from .request import Request
from .sorted_files import Slice
from .steps import Stages, clear, funnel_of


@dataclass(frozen=True)
class DedupSummary(Result):
    """What `dedup` returns."""

    out: str
    dataset: str
    funnel: Funnel
    groups: Mapping[int, int]  # rows in a group -> number of groups with as many
    done_before: bool
    seconds: float

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "seconds": round(self.seconds, 3)}


def dedup(job: DedupJob, on_stage: OnStage = notebook.stages) -> DedupSummary:
    """Keep the best of each group of duplicates; run again to resume, or when the dataset has grown.

    Groups are connected: rows that are near to one row are of one group, however far they are from each other. All
    groups are in OUT/.clipmill/groups.parquet. OUT/.clipmill/cells holds every compared embedding `probes` times, so
    that the rows of new parts are compared with them; it may be deleted. UserError for what is wrong with the request,
    PlanMismatchError where OUT was begun otherwise.
    """
    began = time.monotonic()
    request = Request.of(job)
    todo = begin_subset(request.output, "dedup", request.dataset, request.settings, job.overwrite)
    subset = _deduplicate(request, on_stage) if todo else Subset.open(request.output.url, job.storage_options)
    clear(request.output)
    return DedupSummary(
        out=request.output.url,
        dataset=request.dataset.url,
        funnel=subset.funnel,
        groups=sizes(request.output),
        done_before=not todo,
        seconds=time.monotonic() - began,
    )


def _deduplicate(request: Request, on_stage: OnStage) -> Subset:
    stages = Stages.of(request, on_stage)
    there = stages.find_there()
    contents = stages.read_contents(there)
    counts = Counts.of(contents)
    equal, copies = stages.find_copies(contents)
    duplicates = copies.bytes // PAIR.itemsize
    near: list[Slice] = []
    if request.job.near and not request.job.only_against:
        near = stages.find_near(there, copies, counts.embedded - duplicates)
    by_run, dropped = stages.choose([*equal, *near])
    stages.write(there, by_run)
    funnel = funnel_of(counts, duplicates, dropped - duplicates, there is not None)
    return finish_subset(request.output, request.dataset, funnel)
