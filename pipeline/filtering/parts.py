"""What filtering does to a few parts of a dataset: it counts scores, and keeps rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..dataset.labels import check_part
from ..dataset.output import Output
from ..dataset.sortable import Counts, Keys, digit_counts, keys_of, with_prefix
from ..dataset.sql import complaint, identifier
from ..dataset.subset import IDENTITY, write_subset_part
from .recipes import Step
from .rows import Rows

Group = tuple[str, ...]  # parts that are worked through together: a connection costs more than a small part


def groups_of(parts: Sequence[str]) -> list[Group]:
    size = min(16, 1 + len(parts) // 64)
    return [tuple(parts[start : start + size]) for start in range(0, len(parts), size)]


@dataclass(frozen=True)
class Scores:
    """A column's numbers, as keys in the same order. Rows without a value are left out."""

    rows: Rows
    column: str
    prefix: int
    digit: int

    def _keys(self, parts: Group) -> Keys:
        value = f"{identifier(self.column)}::DOUBLE"
        query = f"SELECT {value} AS score FROM {self.rows.source(parts)} WHERE {value} IS NOT NULL"
        with self.rows.connect(parts) as connection:
            numbers = np.asarray(connection.execute(query).fetchnumpy()["score"])
        return with_prefix(keys_of(numbers), self.prefix, self.digit)


class CountScores(Scores):
    def __call__(self, parts: Group) -> Counts:
        return digit_counts(self._keys(parts), self.digit)


class CollectScores(Scores):
    def __call__(self, parts: Group) -> Keys:
        return self._keys(parts)


@dataclass(frozen=True)
class KeptCounts:
    rows: int
    dropped: Counter[int]  # by the step's index
    kept: int


@dataclass(frozen=True)
class KeepRows:
    """Counts the rows of a few parts, and writes the subset's part for each of them."""

    rows: Rows
    steps: tuple[Step, ...]
    columns: tuple[str, ...]
    output: Output | None  # None to count alone

    def __call__(self, parts: Group) -> KeptCounts:
        if self.rows.labels is not None:
            for part in parts:
                check_part(self.rows.labels, self.rows.dataset, part)
        counts = KeptCounts(0, Counter(), 0)
        with self.rows.connect(parts) as connection:
            for part in parts:
                judged = self._judged(connection, part)
                dropped = Counter(judged["step"].to_numpy().tolist())
                kept = dropped.pop(len(self.steps), 0)
                if self.output is not None:
                    write_subset_part(self.output, part, self._table(part, judged, kept))
                counts = KeptCounts(counts.rows + len(judged), counts.dropped + dropped, counts.kept + kept)
        return counts

    def _judged(self, connection: duckdb.DuckDBPyConnection, part: str) -> pa.Table:
        """The rows, each with the index of the first step that drops it, or with the number of steps if it stays."""
        try:
            return connection.sql(self.query((part,))).to_arrow_table()
        except duckdb.Error as error:
            raise complaint(error, f"{part}: a condition fails") from error

    def query(self, parts: Group) -> str:
        cases = " ".join(f"WHEN ({step.condition}\n) IS NOT TRUE THEN {index}" for index, step in enumerate(self.steps))
        step = f"CASE {cases} ELSE {len(self.steps)} END" if cases else "0"
        columns = "".join(f", labels.{identifier(name)}" for name in self._of_labels)
        return f"SELECT row, ({step})::INTEGER AS step{columns} FROM {self.rows.source(parts)} ORDER BY row"

    @property
    def _own(self) -> list[str]:
        names = self.rows.dataset.schema.names
        return [name for name in (*IDENTITY, *self.columns) if name in names]

    @property
    def _of_labels(self) -> list[str]:
        return [name for name in self.columns if name not in self.rows.dataset.schema.names]

    def _table(self, part: str, judged: pa.Table, kept: int) -> pa.Table:
        """The rows that stay, read from the dataset itself: through SQL, embeddings would lose their type."""
        if not kept:
            return pa.table({})
        stay = judged.filter(pc.equal(judged["step"], len(self.steps)))
        columns = self.rows.dataset.read(part, self._own)
        rows = stay["row"].combine_chunks().cast(pa.int32())
        table = columns.filter(pc.is_in(columns["row"], value_set=rows))
        for name in self._of_labels:
            table = table.append_column(name, stay[name])
        return table
