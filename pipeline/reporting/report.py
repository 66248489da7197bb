"""A dataset on one page: what is in it, how similar its pairs are, what failed, how it was made."""

from __future__ import annotations

from collections.abc import Mapping
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
from ..job.readable import Result
from ..job.report import ReportJob
from .against import Against, agreement_of
from .groups import Grouped, grouped
from .labels import LabelNumbers, create_view, label_numbers
from .numbers import Numbers, numbers_of
from .page import Contents, page_of
from .recipes import RecipeNumbers, recipe_numbers
from .samples import Group, Row, along, at_random, by_label, by_similarity, pictures
from .similarity import Similarity


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
    against: Against | None
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
        measured = _Measured.of(connection, job, dataset, labels)
    small = pictures(dataset, measured.every_group)
    contents = Contents(
        url=dataset.url,
        version=dataset.version,
        within=within.output.url if within else None,
        settings=dataset.settings,
        cards=dataset.model_cards(),
        status=progress,
        numbers=measured.numbers,
        labels=measured.labels,
        grouped=measured.grouped,
        recipes=measured.recipes,
        against=measured.against,
        ladders=measured.ladders,
        groups=measured.groups,
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
        against=measured.against,
        status=progress,
        pictures=len(small),
        pictures_missing=len({(row.shard, row.row) for group in measured.every_group for row in group.rows})
        - len(small),
    )


@dataclass(frozen=True)
class _Measured:
    """What the scans of a dataset find."""

    numbers: Numbers
    labels: LabelNumbers | None
    grouped: tuple[Grouped, ...]
    recipes: RecipeNumbers
    against: Against | None
    ladders: Mapping[str, tuple[Row, ...]]  # by model's alias: rows along its similarities
    groups: list[Group]

    @property
    def every_group(self) -> list[Group]:
        return [*self.groups, *(Group("", rows) for rows in self.ladders.values())]

    @classmethod
    def of(
        cls, connection: duckdb.DuckDBPyConnection, job: ReportJob, dataset: Dataset, labels: Labels | None
    ) -> _Measured:
        if labels is not None:
            create_view(connection, labels)
        numbers = numbers_of(connection, dataset)
        scored = [(similarity, _column(dataset, similarity)) for similarity in numbers.similarities]
        by_group = [found for of, _ in scored for found in grouped(connection, dataset, of, labels is not None)]
        return cls(
            numbers=numbers,
            labels=label_numbers(connection) if labels is not None else None,
            grouped=tuple(by_group),
            recipes=recipe_numbers(connection, dataset, job.alias, numbers.similarities),
            against=_against(connection, job, dataset, numbers),
            ladders={of.alias: along(connection, column, of) for of, column in scored},
            groups=_groups(connection, dataset, job.alias, numbers, labels is not None),
        )


def _column(dataset: Dataset, similarity: Similarity) -> str:
    return next(f"{model.prefix}similarity" for model in dataset.models if model.alias == similarity.alias)


def _against(
    connection: duckdb.DuckDBPyConnection, job: ReportJob, dataset: Dataset, numbers: Numbers
) -> Against | None:
    """The other dataset's numbers, and how far the two agree on the pairs that both have."""
    if job.against is None:
        return None
    other = Dataset.open(job.against, job.storage_options)
    with connect(other) as theirs:
        their_numbers = numbers_of(theirs, other)
    alias = other.models[0].alias
    of_theirs = next((of for of in their_numbers.similarities if of.alias == alias), None)
    model = dataset.model(job.alias)
    mine = next((of for of in numbers.similarities if of.alias == model.alias), None)
    agreement = None
    if mine is not None and of_theirs is not None:
        agreement = agreement_of(connection, f"{model.prefix}similarity", mine, other, of_theirs)
    return Against(other.url, other.models[0].variant, their_numbers, of_theirs, agreement)


def _groups(
    connection: duckdb.DuckDBPyConnection, dataset: Dataset, alias: str | None, numbers: Numbers, labelled: bool
) -> list[Group]:
    model = dataset.model(alias)
    similarity = next((of_model for of_model in numbers.similarities if of_model.alias == model.alias), None)
    groups = by_similarity(connection, f"{model.prefix}similarity", similarity) if similarity else []
    if labelled:
        groups += by_label(connection)
    return groups or at_random(connection)
