"""Groups of duplicates: what is told of their rows, and which of each group is the best."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..dataset.dataset import Dataset
from ..dataset.output import Output
from . import sorted_files
from .components import Ids
from .groups import GROUPS, SCHEMA
from .sorted_files import Ranges, Slice
from .state import PART, Numbering, Run

_RANGES = 256  # of the dataset's parts, by which groups are sorted: in the order of their lowest rows


def ranges(dataset: Dataset) -> int:
    return min(len(dataset.parts), _RANGES)


@dataclass(frozen=True)
class ReadMembers:
    """Reads what is told of a run's rows that are in groups, and sorts them by their groups."""

    dataset: Dataset
    keep_by: str
    output: Output
    prefix: str
    numbering: Numbering
    shards: tuple[str, ...]  # of the parts

    def name_of(self, run: Run) -> str:
        return f"{self.prefix}values-{run.number:06d}"

    def __call__(self, item: tuple[Run, Sequence[Slice]]) -> None:
        run, slices = item
        members = sorted_files.records(self.output, slices, np.dtype(np.int64)).reshape(-1, 2)
        members = members[np.argsort(members[:, 0])]
        tables = [table for number, part in run.parts for table in self._of(number, part, members)]
        sizes, pieces = np.zeros(ranges(self.dataset), np.int64), []
        if tables:
            table = pa.concat_tables(tables)
            buckets = (table["root"].to_numpy() >> PART) * len(sizes) // len(self.dataset.parts)
            for bucket in np.unique(buckets):
                pieces.append(_packed(table.filter(pa.array(buckets == bucket))))
                sizes[bucket] = len(pieces[-1])
        sorted_files.write(self.output, self.name_of(run), pieces, sorted_files.offsets_of(sizes))

    def _of(self, number: int, part: str, members: Ids) -> Iterator[pa.Table]:
        """Of one part; nothing where none of its rows is in a group."""
        place = int(self.numbering.places[number])
        start, stop = np.searchsorted(members[:, 0], [place << PART, (place + 1) << PART])
        if start == stop:
            return
        side = self.dataset.side_of(self.keep_by)
        columns = list(dict.fromkeys(["row", "key", *([] if side else [self.keep_by])]))
        table = self.dataset.read(part, columns)
        ids = (place << PART) | table["row"].to_numpy().astype(np.int64)
        known = members[start:stop]
        chosen = np.isin(ids, known[:, 0])
        table, ids = table.filter(pa.array(chosen)), ids[chosen]
        if side:
            beside = side[0].take(part, table["row"], [side[1]], self.dataset.forgotten.rows(part))
            table = table.append_column(self.keep_by, beside[side[1]])
        yield pa.table(
            {
                "root": known[np.searchsorted(known[:, 0], ids), 1],
                "id": ids,
                "key": table["key"].cast(pa.string()),
                "shard": pa.repeat(self.shards[place], len(ids)),
                "value": _value(table[self.keep_by]),
            }
        )


def _value(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """NaN is no value."""
    if pa.types.is_dictionary(column.type):
        return column.cast(column.type.value_type)
    if pa.types.is_floating(column.type):
        wide = column.cast(pa.float64())
        return pc.if_else(pc.is_nan(wide), pa.scalar(None, pa.float64()), wide)
    return column


def _packed(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(table)
    return sink.getvalue()


@dataclass(frozen=True)
class ChooseBest:
    """Numbers a range's groups from 0, and keeps the best row of each. Writes a file of groups, and the rows that go,
    int64, sorted by run."""

    output: Output
    prefix: str
    numbering: Numbering

    def name_of(self, slices: Sequence[Slice]) -> str:
        return f"{self.prefix}dropped-{sorted_files.digest_of(slices)}"

    def groups_of(self, slices: Sequence[Slice]) -> str:
        return f"{self.prefix}groups-{sorted_files.digest_of(slices)}.parquet"

    def __call__(self, slices: Sequence[Slice]) -> None:
        tables = [pa.ipc.open_stream(data).read_all() for data in _streams(self.output, slices)]
        groups = _grouped(pa.concat_tables(tables))
        with self.output.staged(self.groups_of(slices), replace=True) as path:
            pq.write_table(groups.select(SCHEMA.names).cast(SCHEMA), path, compression="zstd")
        ids = groups["id"].to_numpy()[~groups["kept"].to_numpy()]
        ids = self.numbering.numbered(ids)
        count = groups["group"][-1].as_py() + 1
        records, offsets = sorted_files.sort(ids, self.numbering.runs_of(ids), self.numbering.runs)
        sorted_files.write(self.output, self.name_of(slices), [records], offsets, [count, len(ids)])  # groups, rows


def _streams(output: Output, slices: Sequence[Slice]) -> Iterator[Any]:
    """The tables in slices, which each may hold several, one after the other."""
    for data in sorted_files.read(output, slices):
        source = pa.BufferReader(data)
        while source.tell() < source.size():
            yield source


def _grouped(members: pa.Table) -> pa.Table:
    with duckdb.connect() as connection:
        connection.register("members", members)
        grouped = connection.sql(
            f"""
            SELECT id, key, shard, (id & {(1 << PART) - 1})::INTEGER AS row,
                dense_rank() OVER (ORDER BY root) - 1 AS "group",
                row_number() OVER (PARTITION BY root ORDER BY value DESC NULLS LAST, id) = 1 AS kept
            FROM members ORDER BY root, id
            """
        )
        return grouped.to_arrow_table()


def write_groups(choose: ChooseBest, grouped: Ranges, dropped: Ranges) -> int:
    """The file of all groups, of those of each range, which follow each other. The number of rows that go.
    dropped: the files of rows that go, of the same ranges in the same order."""
    output, before, rows = choose.output, 0, 0
    with output.staged(GROUPS, replace=True) as path, pq.ParquetWriter(path, SCHEMA, compression="zstd") as writer:
        for slices, (groups, gone) in zip(grouped.all(), dropped.counts.tolist(), strict=True):
            with output.open(choose.groups_of(slices)) as file:
                for batch in pq.ParquetFile(file).iter_batches(1 << 17):
                    renumbered = pc.add(batch["group"], before)
                    writer.write_batch(batch.set_column(batch.schema.get_field_index("group"), "group", renumbered))
            before += groups
            rows += gone
    return rows
