"""A filter job, with the files that it names opened, and its columns and conditions checked."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from ..dataset.columns import check_column_names
from ..dataset.dataset import Dataset
from ..dataset.labels import Labels
from ..dataset.layout import part_path
from ..dataset.output import Output
from ..dataset.side_table import identity_of
from ..dataset.sql import check_condition, complaint, only_named
from ..dataset.subset import Subset, version_of
from ..errors import InputError, UserError, one_line
from ..inputs.text_file import lines_of, read_text
from ..job.filter import FilterJob
from . import row_functions
from .recipes import RECIPES, Step, check_recipe
from .row_functions import RowFunction
from .rows import Rows
from .uids import check_uids

_PAIRS = re.compile(r"\bpairs\b", re.IGNORECASE)  # perhaps in a subquery, which then sees all rows

FAILED = Step("failed to embed", "error IS NULL")


@dataclass(frozen=True)
class FilterRequest:
    job: FilterJob
    dataset: Dataset
    output: Output
    by: str  # column of scores
    within: Subset | None
    labels: Labels | None
    reference: Dataset | None
    vocabulary: tuple[str, ...]
    steps: tuple[Step, ...]  # the conditions, in order, but for those of the score

    @classmethod
    def of(cls, job: FilterJob) -> FilterRequest:
        """UserError for whatever is wrong with the job, before anything is written."""
        job.check()
        check_recipe(job)
        options = job.storage_options
        dataset = Dataset.open(job.dataset, options).join(job.joins)
        within = Subset.within(job.within, dataset)
        dataset = replace(dataset, version=version_of(dataset, within))
        labels = None if job.labels is None else Labels.open(job.labels, dataset)
        if labels is not None:
            dataset = replace(dataset, version=f"{dataset.version} labels {labels.identity}")
        dataset = replace(dataset, version=dataset.version + identity_of(dataset.sides))
        if job.uids is not None:
            check_uids(dataset, job.uids, options, job.overwrite)
        request = cls(
            job=job,
            dataset=dataset,
            output=Output.at(job.out, options),  # of a job that only counts, nothing is written to it
            by=job.by or f"{dataset.model(job.alias).prefix}similarity",
            within=within,
            labels=labels,
            reference=None if job.reference is None else Dataset.open(job.reference, options),
            vocabulary=_vocabulary(job),
            steps=_steps(dataset, job),
        )
        request._check_columns()
        request._check_where()
        return request if job.count else replace(request, output=request.output.prepare())

    @property
    def settings(self) -> dict[str, Any]:
        """All that the subset depends on."""
        job, reference = self.job, self.reference
        digest = hashlib.sha256("\n".join(self.vocabulary).encode()).hexdigest()
        return {
            "where": list(job.where),
            "recipe": job.recipe,
            "top fraction": job.top_fraction,
            "threshold": job.threshold,
            "by": self.by,
            "columns": list(job.columns),
            "labels": self.labels.output.url if self.labels else None,
            "language detector": job.language_detector,
            "vocabulary": f"{len(self.vocabulary)} of sha256 {digest[:16]}" if self.vocabulary else None,
            "reference": f"{reference.url} of version {reference.version[:12]}" if reference else None,
            "cells": job.cells,
            "failed": job.failed,
            "within": self.within.output.url if self.within else None,
            "joined": [side.option for side in self.dataset.sides] or None,
        }

    def rows(self, *functions: RowFunction) -> Rows:
        """The rows that conditions see. functions: more of them than `english` and `in_vocabulary`."""
        english = row_functions.english(self.job.language_detector)
        always = (english, row_functions.in_vocabulary(self.vocabulary))
        names_pairs = any(map(_PAIRS.search, self.job.where))
        named = (*self.job.where, *(step.condition for step in self.steps), self.by, *self.job.columns)
        dataset = only_named(self.dataset, named)
        return Rows(dataset, self.within, self.labels, (*always, *functions), names_pairs)

    @property
    def narrow_columns(self) -> list[str]:
        """The columns that conditions may name, but for the dataset's embeddings; side tables' by their last names."""
        names = {field.name: field.type for field in self._schema() if "." not in field.name}
        own = [name for name, kind in names.items() if not pa.types.is_fixed_size_list(kind)]
        others = [name for side in self.dataset.sides for name in (side.alias, *side.schema.names)]
        return [*own, *(name for name in others if name not in names)]

    def _check_columns(self) -> None:
        """UserError for columns that do not exist, and for a score that is not a number or that no row has."""
        types = {field.name: field.type for field in self._schema()}
        check_column_names([self.by], types, "--by")
        check_column_names(self.job.columns, types)
        scored = self.job.threshold is not None or self.job.top_fraction is not None
        if scored and not (pa.types.is_floating(types[self.by]) or pa.types.is_integer(types[self.by])):
            raise UserError(f"--by {self.by}: the column holds {types[self.by]}; name one that holds numbers")
        similarities = [f"{model.prefix}similarity" for model in self.dataset.models]
        if scored and self.by in similarities and self.dataset.settings.embeds != "images and texts":
            raise InputError(
                f"--by {self.by}: {self.dataset.url} has embeddings of {self.dataset.settings.embeds} alone, and so no "
                "similarity; name another column"
            )

    def _schema(self) -> Sequence[pa.Field]:
        """The dataset's columns, the side tables', and those that only the labels have."""
        own = [pa.field(name, kind) for name, kind in self.dataset.types.items()]
        if self.labels is None:
            return own
        with self.labels.output.open(part_path(self.labels.parts[0])) as file:
            of_labels = pq.ParquetFile(file).schema_arrow
        names = set(self.dataset.schema.names)
        return [*own, *(field for field in of_labels if field.name not in names)]

    def _check_where(self) -> None:
        """UserError, in DuckDB's words, for SQL that is not a condition on these rows."""
        # with all columns of side tables, so that errors tell which there are
        parts, rows = self.dataset.parts[:1], replace(self.rows(), dataset=self.dataset)
        with rows.connect(parts) as connection:
            for text in self.job.where:
                query = f"SELECT row, ({text}\n) IS NOT TRUE FROM {rows.source(parts)} LIMIT 1"
                check_condition(connection, text, f"--where {text}")
                with _duckdb_errors(f"--where {text}"):
                    if len(connection.extract_statements(query)) != 1:
                        raise UserError(f"--where {text}: must be one condition")
                    # in WHERE, too, which refuses window functions: they would see the rows of one part alone
                    connection.execute(f"SELECT 1 FROM {rows.source(parts)} WHERE ({text}\n) LIMIT 0").fetchall()
                    connection.execute(query).fetchall()


def _steps(dataset: Dataset, job: FilterJob) -> tuple[Step, ...]:
    failed = () if job.failed else (FAILED,)
    where = (Step(f"not {one_line(text)}", text) for text in job.where)
    recipe = RECIPES[job.recipe].steps(dataset, job) if job.recipe else ()
    return (*failed, *where, *recipe)


@contextmanager
def _duckdb_errors(option: str) -> Iterator[None]:
    try:
        yield
    except duckdb.Error as error:
        raise complaint(error, option) from error


def _vocabulary(job: FilterJob) -> tuple[str, ...]:
    if job.vocabulary is None:
        return ()
    words = tuple(lines_of(read_text(job.vocabulary, job.storage_options)))
    if not words:
        raise InputError(f"{job.vocabulary}: no word in it; write one a line")
    return words
