"""Judging the rows of a few parts of a dataset, and keeping those that stay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ..dataset.labels import check_part
from ..dataset.output import Output
from ..dataset.side_table import with_columns
from ..dataset.sql import complaint, identifier
from ..dataset.subset import write_subset_part
from .kept import kept_in_part, kept_in_table
from .recipes import Step
from .rows import Rows
from .runs import Run
from .scores import PLACE

STEP = "clipmill's step"  # a column's name, as `PLACE` is

PartCounts = npt.NDArray[np.int64]  # [parts, steps + 1]: rows by the first step that drops them; in the end what stays


@dataclass(frozen=True)
class KeepRows:
    """Counts the rows of a few parts, and writes the subset's part for each of them."""

    rows: Rows
    steps: tuple[Step, ...]
    own: tuple[str, ...]  # the dataset's columns to keep
    of_labels: tuple[str, ...]  # and the labels'
    beside: tuple[str, ...]  # and the side tables', as alias.column
    output: Output | None  # None to count alone

    def __call__(self, run: Run) -> PartCounts:
        if self.rows.labels is not None:
            for part in run.parts:
                check_part(self.rows.labels, self.rows.dataset, part)
        return self.rows.of(run, self._of_run)

    def _of_run(self, rows: Rows, run: Run) -> PartCounts:
        with rows.connect(run.parts) as connection:
            if run.narrow:
                return self._from_table(connection, rows, run)
            return np.stack([self._from_part(connection, rows, part) for part in run.parts])

    def _from_part(self, connection: duckdb.DuckDBPyConnection, rows: Rows, part: str) -> npt.NDArray[np.int64]:
        try:
            judged = connection.sql(
                f"{self.query(self.steps, rows.source((part,)), 'row')} ORDER BY {identifier(PLACE)}"
            ).to_arrow_table()
        except duckdb.Error as error:
            raise complaint(error, f"{part}: a condition fails") from error
        counts = np.bincount(judged[STEP].to_numpy(), minlength=len(self.steps) + 1)
        if self.output is not None:
            stay = judged.filter(pc.equal(judged[STEP], len(self.steps)))
            kept = kept_in_part(rows.dataset, part, stay[PLACE], self.own) if len(stay) else pa.table({})
            write_subset_part(self.output, part, self.with_others(kept, stay, part))
        return counts

    def _from_table(self, connection: duckdb.DuckDBPyConnection, rows: Rows, run: Run) -> PartCounts:
        """All parts of the run by one query."""
        (file,), width = run.narrow, len(self.steps) + 1
        query = self.query(self.steps, rows.source(run.parts, PLACE), identifier(PLACE))
        judged = connection.sql(query).to_arrow_table()
        places, steps = judged[PLACE].to_numpy(), judged[STEP].to_numpy()
        if (np.diff(places) < 0).any():  # joins may change the order
            judged = judged.sort_by(PLACE)
            places, steps = judged[PLACE].to_numpy(), judged[STEP].to_numpy()
        numbers = np.searchsorted(file.starts, places, side="right") - 1  # empty parts have no place
        counts = np.bincount(numbers * width + steps, minlength=len(file.parts) * width).reshape(-1, width)
        if self.output is not None:
            stay = judged.filter(pc.equal(judged[STEP], len(self.steps)))
            ends = np.searchsorted(stay[PLACE].to_numpy(), file.starts)
            kept = kept_in_table(rows.dataset, file, stay[PLACE].to_numpy(), self.own)
            for number, table in enumerate(kept):
                of_part = stay.slice(ends[number], ends[number + 1] - ends[number])
                part = file.parts[number]
                write_subset_part(self.output, part, self.with_others(table, of_part, part))
        return counts

    def query(self, steps: Sequence[Step], source: str, place: str, own: Sequence[str] = ()) -> str:
        """Of each row its `PLACE`, its `STEP`, which is the index of the first that drops it, or the number of steps if
        it stays, and what is kept of its labels. own: the dataset's columns to have, too."""
        cases = " ".join(f"WHEN ({step.condition}\n) IS NOT TRUE THEN {index}" for index, step in enumerate(steps))
        step = f"CASE {cases} ELSE {len(steps)} END" if cases else "0"
        columns = [f"labels.{identifier(name)}" for name in self.of_labels]
        columns += [f"pairs.{identifier(name)}" for name in own]
        judged = f"{place} AS {identifier(PLACE)}, ({step})::INTEGER AS {identifier(STEP)}"
        return f"SELECT {', '.join([judged, *columns])} FROM {source}"

    def with_others(self, kept: pa.Table, stay: pa.Table, part: str) -> pa.Table:
        """The rows that stay of a part, with what is kept of their labels and side tables."""
        if not len(kept):
            return kept
        for name in self.of_labels:
            kept = kept.append_column(name, stay[name])
        return with_columns(kept, self.rows.dataset, part, self.beside)
