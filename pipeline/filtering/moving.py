"""The threshold of a best share has moved a little, since the dataset has grown: the parts of a subset get the rows
whose scores it has passed, or lose them. Nothing else is read or judged again."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ..dataset.dataset import Dataset
from ..dataset.labels import check_part
from ..dataset.sql import identifier
from ..dataset.subset import read_subset_part, write_subset_part
from .kept import as_in_part, as_stored, few_in_table, through_pairs_or_not
from .parts import STEP, KeepRows, PartCounts
from .rows import Rows
from .runs import MOST, Run
from .scores import PLACE, Places, places_between
from .share import PassedRows
from .spread import WAITING

_ROWS = MOST >> 2  # between the thresholds, that are worked on together, or those of one part
_PARTS, _MANY_PARTS = 8, 64  # and parts: one after the other, but looked up by one connection
_PORTIONS = 12  # of the work, that there should be


@dataclass(frozen=True)
class Passed:
    """Parts with rows that the threshold has passed. Cheap to send to workers."""

    run: Run  # parts of one file of the narrow table, these among them
    counts: Mapping[str, npt.NDArray[np.int64]]  # of each of these parts, [steps + 1], by the last threshold
    places: Places | None  # of the rows; None where they are to be looked for

    @property
    def parts(self) -> tuple[str, ...]:
        return tuple(self.counts)


def passed_in(
    dataset: Dataset, rows: Mapping[str, PassedRows], counts: Mapping[str, npt.NDArray[np.int64]]
) -> Iterator[Passed]:
    """Work for `MoveThreshold`. rows: of parts that are in the narrow table."""
    most = min(_MANY_PARTS, max(_PARTS, math.ceil(len(rows) / _PORTIONS)))
    for file in dataset.narrow:
        numbers = [number for number, part in enumerate(file.parts) if part in rows]
        ends = np.cumsum([rows[file.parts[number]].count for number in numbers])
        first = 0
        while first < len(numbers):
            before = ends[first - 1] if first else 0
            stop = max(first + 1, min(first + most, int(np.searchsorted(ends, before + _ROWS, side="right"))))
            chosen = numbers[first:stop]
            run = Run.of_file(file.between(chosen[0], chosen[-1] + 1))
            parts = [file.parts[number] for number in chosen]
            places = [places for part in parts if (places := rows[part].places) is not None]
            known = np.concatenate(places) if len(places) == len(parts) else None
            yield Passed(run, {part: counts[part] for part in parts}, known)
            first = stop


@dataclass(frozen=True)
class MoveThreshold:
    """Writes the subset's parts as `keep` would, from what they were by the last threshold; counts their rows.

    By a higher threshold rows leave: their places tell which, and nothing is read but parts of the subset. By a lower
    one rows are added, those that no other step drops. A worker may have done it already and died: it comes to the
    same.
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
        added, places = None, passed.places
        if places is None:
            places = places_between(rows, run, self.column, *sorted((self.last, self.now)))
        if self.now < self.last:
            places, added = self._added(rows, run, places)
        (file,) = run.narrow
        edges = np.searchsorted(places, file.starts).tolist()
        of_parts = dict(zip(file.parts, zip(file.starts[:-1], pairwise(edges), strict=True), strict=True))

        def move(part: str, counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
            start, (first, stop) = of_parts[part]
            if first == stop or (added is None and not counts[-1]):  # nothing comes, or there is nothing to leave
                return counts
            kept = None if added is None else self._as_kept(rows, part, added.slice(first, stop - first))
            more = self._write(part, places[first:stop] - start, kept, had_rows=counts[-1] > 0) - counts[-1]
            moved: npt.NDArray[np.int64] = counts + np.array([*[0] * (len(counts) - 2), -more, more])
            return moved

        return np.stack([move(part, counts) for part, counts in passed.counts.items()])

    def _added(self, rows: Rows, run: Run, places: Places) -> tuple[Places, pa.Table]:
        """Those of the rows that no step drops but for the last: their places, what the narrow table has of the columns
        to keep, and their labels."""
        *others, _ = self.keep.steps
        plain, changed = through_pairs_or_not(rows.dataset, self.keep.own)
        query = self.keep.query(others, rows.source(run.parts, PLACE), identifier(PLACE), plain)
        with rows.connect(run.parts) as connection:
            connection.register("passed", pa.table({"place": places}))
            query = f"{query} WHERE {identifier(PLACE)} IN (FROM passed) ORDER BY {identifier(PLACE)}"
            judged = connection.sql(query).to_arrow_table()
            judged = judged.filter(pc.equal(judged[STEP], len(others)))
            places = judged[PLACE].to_numpy()
            added = as_stored(judged, rows.dataset, plain)
            if changed:
                more = few_in_table(connection, rows.dataset, run.narrow[0], places, changed)
                for name in changed:
                    added = added.append_column(more.schema.field(name), more[name])
        for name in self.keep.of_labels:
            added = added.append_column(name, judged[name])
        return places, added

    def _as_kept(self, rows: Rows, part: str, added: pa.Table) -> pa.Table:
        """Of one part."""
        kept = as_in_part(rows.dataset, part, added, np.arange(len(added)), self.keep.own)
        return self.keep.with_others(kept, added, part)

    def _write(self, part: str, rows: npt.NDArray[np.int64], added: pa.Table | None, had_rows: bool) -> int:
        """The part without these rows, but with what is added. How many rows it has."""
        output, tables = self.keep.output, []
        assert output is not None  # what only counts knows no last threshold
        if had_rows:
            kept = read_subset_part(output, part)
            stays = pc.invert(pc.is_in(kept["row"], value_set=pa.array(rows, kept["row"].type)))
            tables.append(kept.filter(stays).replace_schema_metadata(None))
            if added is None and len(tables[0]) == len(kept):  # other steps had dropped those that leave
                return len(kept)
        if added is not None:
            tables.append(added)
        table = pa.concat_tables(tables).unify_dictionaries().combine_chunks()
        table = table.take(np.argsort(table["row"].to_numpy(), kind="stable"))
        write_subset_part(output, part, table)
        return len(table)


@dataclass(frozen=True)
class KeepOrMove:
    """Judges what has not been judged by the last threshold, and moves the threshold in what has, side by side."""

    keep: KeepRows
    move: MoveThreshold | None

    def __call__(self, item: Run | Passed) -> PartCounts:
        if isinstance(item, Passed):
            assert self.move is not None
            return self.move(item)
        return self.keep(item)


def cores_of(item: Run | Passed) -> float:
    """What either keeps busy."""
    return WAITING if isinstance(item, Passed) else 1.0
