"""What a report tells of the rows of a dataset."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb

from ..dataset.dataset import Dataset
from ..dataset.labels import Labels
from ..dataset.narrow import narrowed, reading
from ..dataset.sql import connect
from ..dataset.subset import Subset
from ..deduplication.groups import DuplicateGroups
from ..filtering import row_functions
from ..filtering.rows import Rows
from ..filtering.spread import Spread
from ..job.report import ReportJob
from ..running.narrow_table import with_narrow_table
from ..running.stages import OnStage
from . import recipes
from .against import Against, agreement_of
from .duplicates import Duplicates, duplicates_of
from .groups import Grouped, grouped
from .labels import LabelNumbers, has_background, label_numbers
from .numbers import Numbers, numbers_of
from .recipes import DETECTOR, RecipeNumbers, conditions_of, recipe_numbers
from .samples import Group, Samples
from .shown_rows import Row, ShownRows
from .summing import Summing
from .sums import Scheme


@dataclass(frozen=True)
class ReportRequest:
    """A job, with what it names opened."""

    job: ReportJob
    dataset: Dataset
    within: Subset | None
    labels: Labels | None
    duplicates: DuplicateGroups | None  # those named, else those of `within`

    @classmethod
    def of(cls, job: ReportJob) -> ReportRequest:
        """UserError for a dataset, subset or labels that are not there or do not fit each other."""
        dataset = Dataset.open(job.dataset, job.storage_options)
        dataset.model(job.alias)  # refuses an alias that the dataset does not have
        within = Subset.within(job.within, dataset)
        labels = None if job.labels is None else Labels.open(job.labels, dataset)
        if labels is not None:
            labels.check_fits(dataset)
        if job.duplicates is not None:
            duplicates: DuplicateGroups | None = DuplicateGroups.open(job.duplicates, dataset)
        else:
            duplicates = None if within is None else DuplicateGroups.of(within.output)
        return cls(job, dataset, within, labels, duplicates)


@dataclass(frozen=True)
class Measured:
    """Of the rows of a dataset, or of those of a subset."""

    numbers: Numbers
    labels: LabelNumbers | None
    grouped: tuple[Grouped, ...]  # similarity by label and by source
    recipes: RecipeNumbers
    duplicates: Duplicates | None
    against: Against | None
    ladders: Mapping[str, tuple[Row, ...]]  # by model's alias: rows along its similarities
    groups: tuple[Group, ...]

    @property
    def shown(self) -> list[Row]:
        """The rows whose pictures are shown, each once."""
        rows = [row for group in self.groups for row in group.rows]
        rows += [row for ladder in self.ladders.values() for row in ladder]
        rows += [row for group in self.duplicates.largest for row in group.rows] if self.duplicates else []
        return list({row.place: row for row in rows}.values())

    @classmethod
    def of(cls, request: ReportRequest, on_stage: OnStage) -> Measured:
        """Reads all but embeddings from the narrow table, which is made before where that pays."""
        table = with_narrow_table(request.dataset, request.job.address, on_stage)
        return reading(table, lambda table: cls._of(request, table, on_stage))

    @classmethod
    def _of(cls, request: ReportRequest, table: Dataset, on_stage: OnStage) -> Measured:
        """table: the dataset as `narrowed` has it."""
        job, dataset, within, labels = request.job, request.dataset, request.within, request.labels
        with connect(table, within) as connection:
            _sum_up(connection, Rows(table, within, labels), job, on_stage)
            numbers = numbers_of(connection, [model.alias for model in dataset.models])
            shown = ShownRows.of(dataset)
            samples = Samples(connection, shown)
            measured = cls(
                numbers=numbers,
                labels=label_numbers(connection, labels) if labels is not None else None,
                grouped=tuple(group for of in numbers.similarities for group in grouped(connection, of)),
                recipes=recipe_numbers(connection, dataset, job.alias, numbers),
                duplicates=duplicates_of(connection, shown, request.duplicates, within, job.alias),
                against=_against(connection, job, table, numbers, on_stage),
                ladders={of.alias: samples.along(of) for of in numbers.similarities},
                groups=tuple(_groups(samples, job.alias, numbers, labels is not None)),
            )
            shown.keep()
            return measured


def _sum_up(connection: duckdb.DuckDBPyConnection, rows: Rows, job: ReportJob, on_stage: OnStage) -> None:
    """Makes the table `sums`. rows: of a dataset as `narrowed` has it."""
    rows = replace(rows, functions=(row_functions.english(DETECTOR),))
    scheme, spread = scheme_of(rows.dataset, rows.labels, job.alias), Spread(job.address, on_stage)
    with tempfile.TemporaryDirectory(prefix="clipmill-report-") as folder:
        Summing(rows, scheme, recipes.MOST, spread).run(connection, Path(folder))


def scheme_of(dataset: Dataset, labels: Labels | None, alias: str | None) -> Scheme:
    """alias: of the model that recipes rank by."""
    return Scheme(
        similarities={model.alias: f"{model.prefix}similarity" for model in dataset.models},
        ranked=dataset.model(alias).alias,
        conditions=conditions_of(dataset, alias),
        by_source="url" in dataset.schema.names,
        by_label=labels is not None,
        has_background=labels is not None and has_background(labels),
    )


def _against(
    connection: duckdb.DuckDBPyConnection, job: ReportJob, dataset: Dataset, numbers: Numbers, on_stage: OnStage
) -> Against | None:
    """The other dataset's numbers, and how far the two agree on the pairs that both have."""
    if job.against is None:
        return None
    model = dataset.model(job.alias)
    mine = next((of for of in numbers.similarities if of.alias == model.alias), None)

    def against(other: Dataset) -> Against:
        with connect(other) as theirs:
            _sum_up(theirs, Rows(other), replace(job, alias=None), on_stage)
            their_numbers = numbers_of(theirs, [model.alias for model in other.models])
        of_theirs = next((of for of in their_numbers.similarities if of.alias == other.models[0].alias), None)
        agreement = None
        if mine is not None and of_theirs is not None:
            agreement = agreement_of(connection, f"{model.prefix}similarity", mine, other, of_theirs)
        return Against(other.url, other.models[0].variant, their_numbers, of_theirs, agreement)

    return reading(narrowed(Dataset.open(job.against, job.storage_options)), against)


def _groups(samples: Samples, alias: str | None, numbers: Numbers, labelled: bool) -> list[Group]:
    model = samples.shown.dataset.model(alias)
    similarity = next((of_model for of_model in numbers.similarities if of_model.alias == model.alias), None)
    groups = samples.by_similarity(similarity) if similarity else []
    if labelled:
        groups += samples.by_label()
    return groups or [samples.at_random()]
