"""What filtering does to a few parts of a dataset: it counts scores, and keeps rows."""

from __future__ import annotations

import math
from dataclasses import dataclass

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ..dataset.labels import check_part
from ..dataset.output import Output
from ..dataset.sortable import DIGITS, Counts, Keys, digit_counts, keys_of, value_of, with_prefix
from ..dataset.sql import complaint, identifier
from ..dataset.subset import write_subset_part
from .kept import kept_in_part, kept_in_table
from .recipes import Step
from .rows import Rows
from .runs import Run

PartCounts = npt.NDArray[np.int64]  # [parts, steps + 1]: rows by the first step that drops them; in the end what stays

_PLACE = "clipmill's place"  # a column's name that no condition uses


@dataclass(frozen=True)
class Scores:
    """A column's numbers, as keys in the same order. Rows without a value are left out."""

    rows: Rows
    column: str
    prefix: int
    digit: int

    def keys(self, run: Run) -> Keys:
        return self.rows.of(run, self._keys)

    def _keys(self, rows: Rows, run: Run) -> Keys:
        value = f"{identifier(self.column)}::DOUBLE"
        query = f"SELECT {value} AS score FROM {rows.source(run.parts)} WHERE {value} IS NOT NULL{self._bounds(value)}"
        with rows.connect(run.parts) as connection:
            numbers = np.asarray(connection.execute(query).fetchnumpy()["score"])
        return with_prefix(keys_of(numbers), self.prefix, self.digit)

    def _bounds(self, value: str) -> str:
        """That its key begins with the prefix, in SQL; nothing where a bound is no number."""
        if not self.digit:
            return ""
        bits = DIGITS[self.digit - 1]
        lowest, highest = value_of(self.prefix << bits), value_of((self.prefix + 1 << bits) - 1)
        if math.isnan(lowest) or math.isnan(highest):
            return ""
        return f" AND {value} BETWEEN '{lowest!r}'::DOUBLE AND '{highest!r}'::DOUBLE"


class CountScores(Scores):
    def __call__(self, run: Run) -> Counts:
        return digit_counts(self.keys(run), self.digit)


class CollectScores(Scores):
    def __call__(self, run: Run) -> Keys:
        return self.keys(run)


@dataclass(frozen=True)
class PartsBetween:
    """Which parts of a run have a score from `low` to below `high`: names."""

    rows: Rows
    column: str
    low: float
    high: float

    def __call__(self, run: Run) -> set[str]:
        return self.rows.of(run, self._parts)

    def _parts(self, rows: Rows, run: Run) -> set[str]:
        value = f"{identifier(self.column)}::DOUBLE"
        where = f"WHERE {value} >= '{self.low!r}'::DOUBLE AND {value} < '{self.high!r}'::DOUBLE"
        with rows.connect(run.parts) as connection:
            if run.narrow:
                query = f"SELECT {identifier(_PLACE)} AS place FROM {rows.source(run.parts, _PLACE)} {where}"
                places = np.asarray(connection.execute(query).fetchnumpy()["place"])
                numbers = np.unique(np.searchsorted(run.narrow[0].starts, places, side="right") - 1)
                return {run.parts[number] for number in numbers}
            queries = ((part, f"SELECT 1 FROM {rows.source((part,))} {where} LIMIT 1") for part in run.parts)
            return {part for part, query in queries if connection.execute(query).fetchall()}


@dataclass(frozen=True)
class KeepRows:
    """Counts the rows of a few parts, and writes the subset's part for each of them."""

    rows: Rows
    steps: tuple[Step, ...]
    own: tuple[str, ...]  # the dataset's columns to keep
    of_labels: tuple[str, ...]  # and the labels'
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
            judged = connection.sql(f"{self._query(rows.source((part,)), 'row')} ORDER BY row").to_arrow_table()
        except duckdb.Error as error:
            raise complaint(error, f"{part}: a condition fails") from error
        counts = np.bincount(judged["step"].to_numpy(), minlength=len(self.steps) + 1)
        if self.output is not None:
            stay = judged.filter(pc.equal(judged["step"], len(self.steps)))
            kept = kept_in_part(rows.dataset, part, stay["place"], self.own) if len(stay) else pa.table({})
            write_subset_part(self.output, part, self._with_labels(kept, stay))
        return counts

    def _from_table(self, connection: duckdb.DuckDBPyConnection, rows: Rows, run: Run) -> PartCounts:
        """All parts of the run by one query."""
        (file,), width = run.narrow, len(self.steps) + 1
        query = self._query(rows.source(run.parts, _PLACE), identifier(_PLACE))
        judged = connection.sql(query).to_arrow_table()
        places, steps = judged["place"].to_numpy(), judged["step"].to_numpy()
        if (np.diff(places) < 0).any():  # joins may change the order
            judged = judged.sort_by("place")
            places, steps = judged["place"].to_numpy(), judged["step"].to_numpy()
        numbers = np.searchsorted(file.starts, places, side="right") - 1  # empty parts have no place
        counts = np.bincount(numbers * width + steps, minlength=len(file.parts) * width).reshape(-1, width)
        if self.output is not None:
            stay = judged.filter(pc.equal(judged["step"], len(self.steps)))
            ends = np.searchsorted(stay["place"].to_numpy(), file.starts)
            kept = kept_in_table(rows.dataset, file, stay["place"].to_numpy(), self.own)
            for number, table in enumerate(kept):
                of_part = stay.slice(ends[number], ends[number + 1] - ends[number])
                write_subset_part(self.output, file.parts[number], self._with_labels(table, of_part))
        return counts

    def _query(self, source: str, place: str) -> str:
        """Of each row its place, the index of the first step that drops it, or the number of steps if it stays, and
        what is kept of its labels."""
        cases = " ".join(f"WHEN ({step.condition}\n) IS NOT TRUE THEN {index}" for index, step in enumerate(self.steps))
        step = f"CASE {cases} ELSE {len(self.steps)} END" if cases else "0"
        columns = "".join(f", labels.{identifier(name)}" for name in self.of_labels)
        return f"SELECT {place} AS place, ({step})::INTEGER AS step{columns} FROM {source}"

    def _with_labels(self, kept: pa.Table, stay: pa.Table) -> pa.Table:
        for name in self.of_labels if len(kept) else ():
            kept = kept.append_column(name, stay[name])
        return kept
