"""The rows of some parts of a dataset, as the SQL of a filter sees them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import duckdb

from ..dataset.dataset import Dataset
from ..dataset.labels import Labels
from ..dataset.sql import connect, register_storage, rows_of, rows_of_labels
from ..dataset.subset import Subset
from .row_functions import RowFunction


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

    def source(self, parts: Sequence[str]) -> str:
        """What queries of these parts select FROM."""
        within = self.within
        if within is not None:
            within = replace(within, parts=tuple(part for part in within.parts if part in parts))
        rows = f"({rows_of(replace(self.dataset, parts=tuple(parts)), within)}) AS pairs"
        if self.labels is None:
            return rows
        return f"{rows} LEFT JOIN ({rows_of_labels(self.labels, parts)}) AS labels USING (shard, row)"
