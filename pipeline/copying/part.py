"""The columns of one part of a dataset: a file of the same name, rows in the same order."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..dataset.columns import AFTER, FIRST, Column
from ..dataset.dataset import Dataset
from ..dataset.layout import part_path
from ..dataset.output import Output
from ..dataset.source import source_of
from ..embedding.read_again import row_by_row, unchanged_shard
from ..inputs.shards import read_fields

_ROWS = 1 << 13  # in memory at once
_SOURCE, _COUNTS = b"clipmill.source", b"clipmill.columns"


@dataclass(frozen=True)
class Copied:
    rows: int
    values: Mapping[str, int]  # by column: rows that have one
    is_new: bool


@dataclass(frozen=True)
class CopyPart:
    """Copies the columns of a part. One that has them already stays as it is, unless its source has changed."""

    dataset: Dataset
    output: Output
    columns: tuple[Column, ...]
    done: frozenset[str]  # parts that have a file of columns

    def __call__(self, part: str) -> Copied:
        gone = self.dataset.forgotten.rows(part)
        source = source_of(self.dataset, part, gone)
        if part in self.done and (copied := self._copied(part, source)) is not None:
            return copied
        with self.output.staged(part_path(part), replace=True) as path:
            return self._write(path, part, source)

    def _copied(self, part: str, source: str) -> Copied | None:
        """What an earlier run has copied; None where it was from another source."""
        with self.output.open(part_path(part)) as file:
            metadata = pq.ParquetFile(file).metadata
        told = metadata.metadata or {}
        if told.get(_SOURCE) != source.encode():
            return None
        return Copied(metadata.num_rows, json.loads(told[_COUNTS]), False)

    def _write(self, path: Path, part: str, source: str) -> Copied:
        names = ("key", "shard", "row")
        own = [field for field in (*FIRST, *AFTER) if field.name in names]
        schema = pa.schema([*own, *(column.field for column in self.columns)])
        rows, values = 0, dict.fromkeys((column.name for column in self.columns), 0)
        with pq.ParquetWriter(path, schema, compression="zstd") as writer:
            for table in self._tables(part, schema):
                writer.write_table(table)
                rows += len(table)
                values = {name: count + len(table) - table[name].null_count for name, count in values.items()}
            writer.add_key_value_metadata({_SOURCE: source, _COUNTS: json.dumps(values)})
        return Copied(rows, values, True)

    def _tables(self, part: str, schema: pa.Schema) -> Iterator[pa.Table]:
        own = self.dataset.read(part, ["key", "shard", "row", "error", "image_offset", "image_size"])
        samples = self._samples(part, own)
        for start in range(0, len(own), _ROWS):
            rows = own.slice(start, _ROWS)
            fields = [next(samples) for _ in range(len(rows))]
            copied = {c.name: pa.array([c.cast(row.get(c.name)) for row in fields], c.field.type) for c in self.columns}
            columns = [copied[name] if name in copied else rows[name] for name in schema.names]
            yield pa.table(columns, schema=schema)
        next(samples, None)  # it says if there are more

    def _samples(self, part: str, own: pa.Table) -> Iterator[Mapping[str, Any]]:
        """The fields of each row, in order: none of a row that is forgotten. InputError where the shard's samples are
        not the part's rows."""
        shard = unchanged_shard(self.dataset, part)
        offsets, sizes = own["image_offset"].to_pylist(), own["image_size"].to_pylist()
        images = [(at, at + size) for at, size in zip(offsets, sizes, strict=True) if at is not None and size]
        names = [column.name for column in self.columns]
        options = self.dataset.output.storage_options
        samples = read_fields(shard, names, options, self.dataset.settings.sample_keys, images)
        return (fields or {} for fields in row_by_row(samples, own, shard, part))
