"""Which rows of a dataset an export has: those that are embedded, with all the sides that the dataset has."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..choices import Side
from ..dataset.dataset import Dataset, DatasetModel
from ..dataset.layout import part_path
from ..dataset.narrow import reading
from ..dataset.side_table import with_columns
from ..dataset.source import source_of
from ..dataset.sql import connect
from ..dataset.subset import Subset, rows_digest, rows_within
from ..errors import InputError
from ..job.export import ExportJob
from ..running.narrow_table import with_narrow_table
from ..running.scatter import scatter
from ..running.stages import OnStage, counted

T = TypeVar("T")

_AT_ONCE = 16  # files of a subset opened
_GROUPS = 64  # of parts that are counted together, at most

Positions = npt.NDArray[np.int64]

# The columns that show whether a row has a side. The embeddings show it, too, but are a hundred times as large.
_SHOWN_BY: dict[Side, str] = {"image": "width", "text": "caption_tokens"}
_COUNTED: dict[int, Side] = {3: "image", 4: "text"}  # columns of the counts below


@dataclass(frozen=True)
class Exportable:
    """rows = exported + failed + incomplete. Cheap to send to workers."""

    dataset: Dataset
    within: Subset | None
    sides: tuple[Side, ...]  # that some row has
    parts: tuple[tuple[str, int], ...]  # with how many rows are exported of each; those with none are left out
    rows: int
    failed: int
    incomplete: int  # embedded, but without one of the sides
    without_uid: int  # of the embedded
    more: tuple[str, ...] = ()  # columns besides those of a layout; of side tables as `alias.column`

    @property
    def exported(self) -> int:
        return sum(count for _, count in self.parts)

    @classmethod
    def of(cls, dataset: Dataset, within: Subset | None, job: ExportJob, on_stage: OnStage) -> Exportable:
        """Counts rows over the cluster, in the narrow table, which is made before where that pays. InputError where
        nothing can be exported."""
        table, address = with_narrow_table(replace(dataset, sides=()), job.address, on_stage), job.address
        groups = _groups(table, within)
        told = counted(
            scatter(_counts, groups, address), "counting", "parts", len(dataset.parts), on_stage, lambda of: len(of[0])
        )
        counts = [row for _, rows in told for row in rows]
        sides: tuple[Side, ...] = tuple(side for column, side in _COUNTED.items() if any(row[column] for row in counts))
        counted_by = 5 if len(sides) == 2 else 3 if "image" in sides else 4
        complete = {row[0]: row[counted_by] for row in counts if row[counted_by]}
        from_shards = zip(dataset.parts, dataset.shards(), strict=True)
        rows, failed = (sum(row[column] for row in counts) for column in (1, 2))
        exportable = cls(
            dataset=dataset,
            within=within,
            sides=sides,
            parts=tuple((part, complete[url]) for part, url in from_shards if url in complete),
            rows=rows,
            failed=failed,
            incomplete=rows - failed - sum(complete.values()),
            without_uid=sum(row[6] for row in counts),
            more=tuple(dict.fromkeys(job.columns)),
        )
        if not exportable.parts:
            raise InputError(f"{dataset.url}: nothing to export: {exportable.left_out()}")
        return exportable

    def states(self) -> dict[str, str]:
        """Of each part that is exported what changes when other rows of it are, or when it is made anew."""
        names = [part for part, _ in self.parts]
        own = dict(zip(self.dataset.parts, map(str, self.dataset.stamps), strict=True))
        stamps = {part: self._with_sides(own[part], part) for part in names}
        within = self.within
        if within is None:
            return stamps
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="subset") as pool:
            digests = pool.map(lambda part: rows_digest(within, part), names)
            return {part: f"{stamps[part]} {digest}" for part, digest in zip(names, digests, strict=True)}

    def left_out(self) -> str:
        if not self.rows:
            return "it has no rows"
        incomplete = f", {self.incomplete:,} have only an image or only a caption" if self.incomplete else ""
        return f"of {self.rows:,} rows {self.failed:,} failed{incomplete}"

    def columns(self, model: DatasetModel) -> dict[Side, str]:
        """A model's columns of embeddings."""
        return {side: f"{model.prefix}{side}_embedding" for side in self.sides}

    def positions(self, part: str) -> Positions:
        """The positions in the part of the rows that are exported, ascending."""
        table = self.dataset.read(part, ["row", "error", *(_SHOWN_BY[side] for side in self.sides)])
        kept = table["error"].is_null()
        for side in self.sides:
            kept = pc.and_(kept, table[_SHOWN_BY[side]].is_valid())
        mask = kept.to_numpy()
        inside = rows_within(self.within, part)
        return np.flatnonzero(mask if inside is None else mask & np.isin(table["row"].to_numpy(), inside))

    def source(self, part: str) -> str:
        """A digest of what is exported of the part: another one where that has changed."""
        return self._with_sides(source_of(self.dataset, part, rows_within(self.within, part)), part)

    def tables(self, part: str, columns: Sequence[str], positions: Positions) -> Iterator[pa.Table]:
        """Some columns of the rows at these positions, a table for each row group. InputError where a side table's file
        does not fit the part."""
        own = [name for name in columns if self.dataset.side_of(name) is None]
        with self.dataset.output.open(part_path(part)) as file:
            parquet = pq.ParquetFile(file)
            beside = self._beside(part, [name for name in columns if name not in own], positions, parquet)
            start = 0
            for group in range(parquet.num_row_groups):
                end = start + parquet.metadata.row_group(group).num_rows
                first, last = np.searchsorted(positions, [start, end])
                if first < last:
                    table = parquet.read_row_group(group, own)
                    if last - first < end - start:  # mostly not so; take() costs a third of reading
                        table = table.take(pa.array(positions[first:last] - start))
                    for name in beside.column_names:
                        table = table.append_column(name, beside[name].slice(first, last - first))
                    yield table.select(list(columns))
                start = end

    def _beside(self, part: str, names: list[str], positions: Positions, parquet: pq.ParquetFile) -> pa.Table:
        """Columns of side tables, of the rows at these positions; no rows where no column is named."""
        if not names:
            return pa.table({})
        for side in self.dataset.sides:
            side.check(self.dataset, part, parquet.metadata.num_rows)
        return with_columns(pa.table({"row": positions}), self.dataset, part, names).select(names)

    def _with_sides(self, state: str, part: str) -> str:
        """A part's state, with those of its files of side tables."""
        return " ".join([state, *(side.stamp(part) for side in self.dataset.sides)])


@dataclass(frozen=True)
class _PartsWithin:
    """Some parts of a dataset, and of a subset of it."""

    table: Dataset  # as `narrowed` has it
    within: Subset | None

    def __len__(self) -> int:
        return len(self.table.parts)


_Counts = tuple[Any, ...]  # of a shard: its URL, then as in the query below


def _counts(parts: _PartsWithin) -> list[_Counts]:
    has = {side: f"error IS NULL AND {column} IS NOT NULL" for side, column in _SHOWN_BY.items()}
    query = (
        f"SELECT shard, count(*), count(error), count(*) FILTER ({has['image']}), "
        f"count(*) FILTER ({has['text']}), count(*) FILTER ({has['image']} AND {has['text']}), "
        "count(*) FILTER (error IS NULL AND uid IS NULL) FROM pairs GROUP BY shard"
    )

    def count(table: Dataset) -> list[_Counts]:
        with connect(table, parts.within, threads=1) as connection:
            return connection.execute(query).fetchall()

    return reading(parts.table, count)


def _groups(table: Dataset, within: Subset | None) -> list[_PartsWithin]:
    """At most `_GROUPS`: opening a connection costs more than a part."""
    size, kept = 1 + len(table.parts) // _GROUPS, set(within.parts) if within else set[str]()
    groups = [table.parts[start : start + size] for start in range(0, len(table.parts), size)]
    return [
        _PartsWithin(table.only(parts), within and replace(within, parts=tuple(part for part in parts if part in kept)))
        for parts in groups
    ]


def halves_of(column: pa.ChunkedArray) -> npt.NDArray[np.float16]:
    """A column of embeddings without nulls -> float16 [n, dim], as stored where that is what is stored."""
    pieces = [
        chunk.values.slice(chunk.offset * chunk.type.list_size, len(chunk) * chunk.type.list_size).to_numpy()
        for chunk in column.chunks
    ]
    return np.concatenate(pieces).reshape(len(column), -1).astype(np.float16, copy=False)


@dataclass(frozen=True)
class Written:
    """What a layout's writer returns."""

    files: int
    done_before: int  # of them
    notes: tuple[str, ...] = ()  # for the person who runs the export


def spread(work: Callable[[T], bool], items: Sequence[T], address: str, on_stage: OnStage) -> Written:
    """Run `work` on every item, on a Ray cluster. It writes the item's files; False where they were there already."""
    done = counted(scatter(work, items, address), "exporting", "files", len(items), on_stage)
    fresh = sum(is_new for _, is_new in done)
    return Written(len(items), len(items) - fresh)
