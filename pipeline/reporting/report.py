"""A dataset on one page: what is in it, how similar its pairs are, what failed, how it was made."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import duckdb

from ..dataset.dataset import Dataset
from ..dataset.labels import Labels
from ..dataset.single_file import SingleFile
from ..dataset.sql import connect
from ..dataset.subset import Subset
from ..dataset.summary import Status, status
from ..errors import InputError
from ..job.report import ReportJob
from .labels import LabelNumbers, create_view, label_numbers
from .numbers import Numbers, numbers_of
from .page import Contents, page_of
from .samples import Group, at_random, by_label, by_similarity, pictures


@dataclass(frozen=True)
class Report:
    """What `report` returns."""

    out: str
    dataset: str
    within: str | None
    numbers: Numbers
    labels: LabelNumbers | None
    status: Status  # of the whole dataset
    pictures: int  # shown
    pictures_missing: int

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "status": self.status.as_json()}


def report(job: ReportJob) -> Report:
    """Writes the page. UserError for a dataset, subset or labels that are not there or do not fit each other."""
    dataset = Dataset.open(job.dataset, job.storage_options)
    dataset.model(job.alias)  # refuses an alias that the dataset does not have
    within = Subset.within(job.within, dataset)
    labels = None if job.labels is None else Labels.open(job.labels, dataset)
    if labels is not None:
        labels.check_fits(dataset)
    out = SingleFile.at(job.out, job.storage_options)
    progress = status(dataset.output)
    if progress is None:
        raise InputError(f"{dataset.url}: the dataset was removed while the report was made")
    with connect(dataset, within) as connection:
        if labels is not None:
            create_view(connection, labels)
        numbers = numbers_of(connection, dataset)
        groups = _groups(connection, dataset, job.alias, numbers, labels is not None)
        label_figures = label_numbers(connection) if labels is not None else None
    small = pictures(dataset, groups)
    contents = Contents(
        url=dataset.url,
        version=dataset.version,
        within=within.output.url if within else None,
        settings=dataset.settings,
        cards=dataset.model_cards(),
        status=progress,
        numbers=numbers,
        labels=label_figures,
        groups=groups,
        pictures=small,
    )
    out.write(page_of(contents).encode())
    missing = len({(row.shard, row.row) for group in groups for row in group.rows}) - len(small)
    return Report(out.url, dataset.url, contents.within, numbers, label_figures, progress, len(small), missing)


def _groups(
    connection: duckdb.DuckDBPyConnection, dataset: Dataset, alias: str | None, numbers: Numbers, labelled: bool
) -> list[Group]:
    model = dataset.model(alias)
    similarity = next((of_model for of_model in numbers.similarities if of_model.alias == model.alias), None)
    groups = by_similarity(connection, f"{model.prefix}similarity", similarity) if similarity else []
    if labelled:
        groups += by_label(connection)
    return groups or at_random(connection)
