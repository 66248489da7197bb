"""The threshold of a best share has moved a little, since the dataset has grown: the parts of a subset get the rows
whose scores it has passed, or lose them. Nothing else is read or judged again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ..dataset.dataset import Dataset
from ..dataset.labels import check_part
from ..dataset.sql import column_of, identifier
from ..dataset.subset import read_subset_part, write_subset_part
from .kept import as_in_part, few_in_table
from .parts import KeepRows, PartCounts
from .rows import Rows
from .runs import MOST, Run
from .scores import PLACE, is_between

_AT_ONCE = 8  # parts of the subset: against latency
_ROWS, _PARTS = MOST >> 2, 32  # that are worked on together: rows between the thresholds, or those of one part; parts


@dataclass(frozen=True)
class Passed:
    """Parts with rows that the threshold has passed. Cheap to send to workers."""

    run: Run  # parts of one file of the narrow table, these among them
    counts: Mapping[str, npt.NDArray[np.int64]]  # of each of these parts, [steps + 1], by the last threshold

    @property
    def parts(self) -> tuple[str, ...]:
        return tuple(self.counts)


def passed_in(
    dataset: Dataset, rows: Mapping[str, int], counts: Mapping[str, npt.NDArray[np.int64]]
) -> Iterator[Passed]:
    """Work for `MoveThreshold`. rows: of each part that is in the narrow table, how many the threshold has passed."""
    for file in dataset.narrow:
        numbers = [number for number, part in enumerate(file.parts) if part in rows]
        ends = np.cumsum([rows[file.parts[number]] for number in numbers])
        first = 0
        while first < len(numbers):
            before = ends[first - 1] if first else 0
            stop = max(first + 1, min(first + _PARTS, int(np.searchsorted(ends, before + _ROWS, side="right"))))
            chosen = numbers[first:stop]
            run = Run.of_file(file.between(chosen[0], chosen[-1] + 1))
            yield Passed(run, {file.parts[number]: counts[file.parts[number]] for number in chosen})
            first = stop


@dataclass(frozen=True)
class MoveThreshold:
    """Writes the subset's parts as `keep` would, from what they were by the last threshold; counts their rows.

    A worker may have done it already and died: rows that are there are not added again.
    """

    keep: KeepRows  # by the threshold of now, which is in its last step
    column: str
    last: float
    now: float

    def __call__(self, passed: Passed) -> PartCounts:
        if self.keep.rows.labels is not None:
            for part in passed.parts:
                check_part(self.keep.rows.labels, self.keep.rows.dataset, part)
        return self.keep.rows.of(passed.run, lambda rows, run: self._of_run(rows, run, passed))

    def _of_run(self, rows: Rows, run: Run, passed: Passed) -> PartCounts:
        if not run.narrow:  # the narrow table's file is damaged
            return self.keep(run.in_parts(passed.parts))
        (file,), is_lower = run.narrow, self.now < self.last
        with rows.connect(run.parts) as connection:
            reaching = self._reaching_the_last_step(connection, rows, run)
            columns = self.keep.own if is_lower else ("row",)
            found = few_in_table(connection, rows.dataset, file, reaching["place"].to_numpy(), columns)
        edges = np.searchsorted(reaching["place"].to_numpy(), file.starts).tolist()
        of_parts = dict(zip(file.parts, pairwise(edges), strict=True))

        def move(part: str, counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
            first, stop = of_parts[part]
            many, of_part, added = stop - first, found.slice(first, stop - first), None
            if is_lower and many:
                added = as_in_part(rows.dataset, part, of_part, np.arange(many), columns)
                added = self.keep.with_others(added, reaching.slice(first, many), part)
            if many:
                self._write(part, of_part["row"], added, had_rows=counts[-1] > 0)
            change = many if is_lower else -many
            moved: npt.NDArray[np.int64] = counts + np.array([*[0] * (len(counts) - 2), -change, change])
            return moved

        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="parts of the subset") as pool:
            return np.stack(list(pool.map(move, *zip(*passed.counts.items(), strict=True))))

    def _reaching_the_last_step(self, connection: duckdb.DuckDBPyConnection, rows: Rows, run: Run) -> pa.Table:
        """The rows between the thresholds that no step drops but for the last, by their places."""
        *others, _ = self.keep.steps
        query = self.keep.query(others, rows.source(run.parts, PLACE), identifier(PLACE))
        between = is_between(column_of(rows.dataset, self.column), *sorted((self.last, self.now)))
        table = connection.sql(f"{query} WHERE {between} ORDER BY place").to_arrow_table()
        return table.filter(pc.equal(table["step"], len(others)))

    def _write(self, part: str, passed: pa.ChunkedArray, added: pa.Table | None, had_rows: bool) -> None:
        """The part without the rows that were passed, and with those of them that are added."""
        output, tables = self.keep.output, []
        assert output is not None  # what only counts knows no last threshold
        if had_rows:
            kept = read_subset_part(output, part)
            stays = pc.invert(pc.is_in(kept["row"], value_set=passed.combine_chunks()))
            tables.append(kept.filter(stays).replace_schema_metadata(None))
        if added is not None:
            tables.append(added)
        table = pa.concat_tables(tables).unify_dictionaries().combine_chunks()
        write_subset_part(output, part, table.take(np.argsort(table["row"].to_numpy(), kind="stable")))
