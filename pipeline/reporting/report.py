"""A dataset on one page: what is in it, how similar its pairs are, what failed, how it was made."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ..dataset.single_file import SingleFile
from ..dataset.summary import Status, status
from ..errors import InputError
from ..job.readable import Result
from ..job.report import ReportJob
from ..running import notebook
from ..running.stages import OnStage
from .against import Against
from .columns import ReportedColumn, check_reported, reported_columns
from .duplicates import Duplicates
from .groups import Grouped
from .labels import LabelNumbers
from .measured import Measured, ReportRequest
from .numbers import Numbers
from .page import MARK, Contents, page_of
from .pictures import pictures
from .recipes import RecipeNumbers


@dataclass(frozen=True)
class Report(Result):
    """What `report` returns."""

    out: str
    dataset: str
    within: str | None
    numbers: Numbers
    labels: LabelNumbers | None
    grouped: tuple[Grouped, ...]  # similarity by label and by source
    recipes: RecipeNumbers
    duplicates: Duplicates | None
    against: Against | None
    columns: tuple[ReportedColumn, ...]  # that the job names
    status: Status  # of the whole dataset
    pictures: int  # shown
    pictures_missing: int

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "status": self.status.as_json()}


def report(job: ReportJob, on_stage: OnStage = notebook.stages) -> Report:
    """Writes the page; replaces an earlier report. UserError for a dataset, subset or labels that are not there or do
    not fit each other; OutputError for another file where the page would be, unless `job.overwrite`."""
    job.check()
    out = SingleFile.at(job.out, job.storage_options)
    if not job.overwrite:
        out.check_own(MARK.encode(), "report")
    request = ReportRequest.of(job)
    dataset, within = request.dataset, request.within
    joined = dataset.join(job.joins)
    check_reported(joined, job.columns)
    progress = status(dataset.output)
    if progress is None:
        raise InputError(f"{dataset.url}: the dataset was removed while the report was made")
    measured = Measured.of(request, on_stage)
    columns = reported_columns(joined, within, job.columns, job.alias)
    small = pictures(dataset, measured.shown, on_stage)
    contents = Contents(
        url=dataset.url,
        version=dataset.version,
        within=within.output.url if within else None,
        settings=dataset.settings,
        cards=dataset.model_cards(),
        status=progress,
        measured=measured,
        columns=columns,
        pictures=small,
    )
    out.write(page_of(contents).encode())
    return Report(
        out=out.url,
        dataset=dataset.url,
        within=contents.within,
        numbers=measured.numbers,
        labels=measured.labels,
        grouped=measured.grouped,
        recipes=measured.recipes,
        duplicates=measured.duplicates,
        against=measured.against,
        columns=columns,
        status=progress,
        pictures=len(small),
        pictures_missing=len(measured.shown) - len(small),
    )
