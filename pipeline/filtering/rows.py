"""The rows of some parts of a dataset, as the SQL of a filter sees them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TypeVar

import duckdb

from ..dataset.dataset import Dataset
from ..dataset.labels import Labels
from ..dataset.narrow import reading
from ..dataset.sql import connect, register_storage, rows_of, rows_of_labels
from ..dataset.subset import Subset
from ..errors import ClipmillError
from .row_functions import RowFunction
from .runs import Run

R = TypeVar("R")


@dataclass(frozen=True)
class Rows:
    """Cheap to send to workers, which work on some parts each.

    A condition sees its row as `pairs`, and the row's labels, if there are any, as `labels`. names_pairs: some
    condition may read the whole dataset, in a subquery FROM pairs.
    """

    dataset: Dataset
    within: Subset | None = None
    labels: Labels | None = None
    functions: tuple[RowFunction, ...] = ()
    names_pairs: bool = False

    @contextmanager
    def connect(self, parts: Sequence[str]) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection for queries of these parts, on one thread."""
        dataset = self.dataset if self.names_pairs else self.dataset.only(parts)
        with connect(dataset, self.within, threads=1) as connection:
            if self.labels is not None:
                register_storage(connection, self.labels.output.url, self.labels.output.storage_options)
            for function in self.functions:
                function.register(connection)
            yield connection

    def source(self, parts: Sequence[str], place: str | None = None) -> str:
        """What queries of these parts select FROM. place: as in `sql.rows_of`."""
        within, wanted = self.within, set(parts)
        if within is not None:
            within = replace(within, parts=tuple(part for part in within.parts if part in wanted))
        rows = f"({rows_of(self.dataset.only(parts), within, place)}) AS pairs"
        if self.labels is None:
            return rows
        return f"{rows} LEFT JOIN ({rows_of_labels(self.labels, parts)}) AS labels USING (shard, row)"

    def for_runs(self) -> Rows:
        """What workers need besides the runs that they get."""
        return self if self.names_pairs else replace(self, dataset=self.dataset.only(()))

    def of(self, run: Run, read: Callable[[Rows, Run], R]) -> R:
        """What `read` makes of the rows of a run, wherever they can be read; see `narrow.reading`."""
        dataset = self.dataset if self.names_pairs else run.of(self.dataset)

        def read_of(dataset: Dataset) -> R:
            there = {file.name for file in dataset.narrow}
            narrow = tuple(file for file in run.narrow if file.name in there)
            return read(replace(self, dataset=dataset), replace(run, narrow=narrow))

        try:
            return reading(dataset, read_of)
        except ClipmillError:
            if not run.narrow:
                raise
            return read_of(replace(dataset, narrow=()))  # says in which part a condition fails
