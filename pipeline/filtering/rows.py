"""The rows of some parts of a dataset, as the SQL of a filter sees them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TypeVar

import duckdb
import pyarrow as pa

from ..dataset.dataset import Dataset
from ..dataset.labels import Labels
from ..dataset.narrow import NARROW
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
        """What `read` makes of the rows of a run. Where the run's file of the narrow table is damaged or gone, it reads
        the parts, and the file is deleted: it is made again."""
        try:
            return read(self._at(run), run)
        except (ClipmillError, duckdb.Error, pa.ArrowException, OSError, ValueError):
            if not run.narrow:
                raise
            in_parts = replace(run, narrow=())
            result = read(self._at(in_parts), in_parts)  # raises what is not the file's fault
            with suppress(ClipmillError, OSError):
                self.dataset.output.delete(f"{NARROW}/{run.narrow[0].name}")
            return result

    def _at(self, run: Run) -> Rows:
        if self.names_pairs:
            return self if run.narrow else replace(self, dataset=replace(self.dataset, narrow=()))
        return replace(self, dataset=run.of(self.dataset))
