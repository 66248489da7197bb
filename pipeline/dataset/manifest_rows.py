"""Where a manifest's rows are: in a table, or in Parquet, which takes a third of the memory until it is read."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from typing import Protocol

import pyarrow as pa
import pyarrow.parquet as pq

COUNTS, SECONDS = pa.map_(pa.string(), pa.int64()), pa.map_(pa.string(), pa.float64())
SCHEMA = pa.schema(
    [
        ("part", pa.string()),
        ("shard", pa.string()),
        ("rows", pa.int64()),
        ("embedded", pa.int64()),
        ("failures", COUNTS),  # by reason
        ("seconds", SECONDS),  # by stage
        ("bytes", pa.int64()),
        ("starved", SECONDS),  # by stage
        ("blocked", SECONDS),
        ("flop", pa.float64()),
        ("peak", pa.float64()),
        ("half_pairs", COUNTS),  # by side and cause
        ("notes", COUNTS),
    ]
)
_FEW = 4096  # rows that are in a table as soon as they are read


class Rows(Protocol):
    """Rows of SCHEMA."""

    def __len__(self) -> int: ...

    def column(self, name: str) -> pa.ChunkedArray: ...

    def tables(self) -> Iterator[pa.Table]:
        """All rows, in tables of which one need be in memory."""
        ...


class Held:
    """Rows in a table."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def __len__(self) -> int:
        return len(self._table)

    def column(self, name: str) -> pa.ChunkedArray:
        return self._table[name]

    def tables(self) -> Iterator[pa.Table]:
        yield self._table


class Packed:
    """Rows in a Parquet file's bytes, read a column or a row group at a time.

    On the caller's thread alone: see `part.unpacked`.
    """

    def __init__(self, file: pq.ParquetFile) -> None:
        self._file = file

    def __len__(self) -> int:
        return int(self._file.metadata.num_rows)

    def column(self, name: str) -> pa.ChunkedArray:
        table = self._file.read([name], use_threads=False)
        return table[name].cast(SCHEMA.field(name).type)

    def tables(self) -> Iterator[pa.Table]:
        for number in range(self._file.num_row_groups):
            table = self._file.read_row_group(number, use_threads=False)
            yield table.select(SCHEMA.names).cast(SCHEMA)


def rows_in(content: bytes) -> Rows:
    """KeyError for a file of other columns, an error of Arrow for one that is damaged, wherever it is."""
    packed = Packed(pq.ParquetFile(io.BytesIO(content), pre_buffer=False))
    if len(packed) <= _FEW:
        return Held(pa.concat_tables([SCHEMA.empty_table(), *packed.tables()]))
    for _ in packed.tables():  # whoever asks later has nothing else to turn to
        pass
    pa.default_memory_pool().release_unused()
    return packed


def in_pieces(tables: Iterable[pa.Table], size: int) -> Iterator[pa.Table]:
    """The same rows in tables of `size` rows, the last one of fewer."""
    waiting: list[pa.Table] = []
    count = 0
    for table in tables:
        start = 0
        while len(table) - start >= (missing := size - count):
            yield pa.concat_tables([*waiting, table.slice(start, missing)])
            waiting, count, start = [], 0, start + missing
        if start < len(table):
            waiting.append(table.slice(start))
            count += len(table) - start
    if waiting:
        yield pa.concat_tables(waiting)
