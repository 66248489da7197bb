"""A file of the narrow table (narrow.py): the rows of some parts without their embeddings, and in its footer which
parts these are and how their scores are spread."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from .forgotten import Rows, blanked
from .sortable import Counts, digit_counts, keys_of

SHA256 = pa.binary(32)  # in the file, where parts have 64 hexadecimal digits
_FOOTER = b"clipmill.narrow"
_FIRST = ("key", "shard", "row", "image_offset", "image_size", "error")  # which are read together, for subsets
FORMAT = 3  # files of another one are not read: they are made anew, and have other names
_ROWS = 1 << 18  # of a row group, about: up to twice as many, so that a part is in one
_BYTES = 128 << 20  # of a row group in memory, at most one part more

Histogram = tuple[tuple[int, ...], tuple[int, ...]]  # the high 16 bits of the sortable keys that occur, and how often


@dataclass(frozen=True)
class NarrowFile:
    """Parts that follow each other in one file: all of its parts, or some. Cheap to send to workers."""

    name: str
    bytes: int  # of the file
    parts: tuple[str, ...]  # names, in the order of their rows
    sizes: tuple[int, ...]  # of the dataset's parts, in bytes
    stamps: tuple[int, ...]  # of the parts that this was made of
    starts: tuple[int, ...]  # the place of each part's first row in the file, and the place after the last row
    histograms: Mapping[str, Histogram] = field(default_factory=dict)  # by column; none for some parts of a file
    is_whole: bool = True  # whether these are all parts of the file
    footer: pq.FileMetaData | None = field(default=None, compare=False, repr=False)  # saves readers a request

    @property
    def rows(self) -> int:
        return self.starts[-1] - self.starts[0]

    def between(self, first: int, stop: int) -> NarrowFile:
        """Some of the parts, by their positions."""
        if (first, stop) == (0, len(self.parts)):
            return self
        return NarrowFile(
            self.name,
            self.bytes,
            self.parts[first:stop],
            self.sizes[first:stop],
            self.stamps[first:stop],
            self.starts[first : stop + 1],
            is_whole=False,
            footer=self.footer,
        )

    def counts(self, column: str) -> Counts | None:
        """How many values of a column have each value of their keys' high 16 bits; None where that is not known."""
        if column not in self.histograms:
            return None
        counts, (digits, times) = np.zeros(1 << 16, np.int64), self.histograms[column]
        counts[list(digits)] = times
        return counts


def narrow_schema(schema: pa.Schema) -> pa.Schema:
    """Of a file, for a dataset's columns: what is read together lies together, scores among it."""
    first = [schema.field(name) for name in _FIRST if name in schema.names]
    others = [f for f in schema if f.name not in _FIRST and not pa.types.is_fixed_size_list(f.type)]
    others.sort(key=lambda field: not pa.types.is_floating(field.type))
    return pa.schema([f.with_type(SHA256) if f.name == "sha256" else f for f in (*first, *others)])


def of_parts(files: Iterable[NarrowFile], parts: Iterable[str]) -> tuple[NarrowFile, ...]:
    """As much of the files as has these parts."""
    wanted, pieces = set(parts), list[NarrowFile]()
    for file in files:
        first = None
        for number, part in enumerate((*file.parts, None)):
            if part in wanted and first is None:
                first = number
            elif part not in wanted and first is not None:
                pieces.append(file.between(first, number))
                first = None
    return tuple(pieces)


class NarrowWriter:
    """Writes a local file, part by part. Memory holds a row group."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        """schema: as `narrow_schema` makes it."""
        self._schema = schema
        short = [f.name for f in schema if f.name == "shard" or pa.types.is_primitive(f.type)]
        self._writer = pq.ParquetWriter(
            path,
            schema,
            compression="zstd",
            use_dictionary=["shard", "error"],
            write_statistics=short,
            write_page_checksum=True,
        )
        self._waiting: list[pa.Table] = []
        self._parts: list[tuple[str, int, int, int]] = []  # name, bytes, stamp, rows
        floats = [f.name for f in schema if pa.types.is_floating(f.type)]
        self._counts = {name: np.zeros(1 << 16, np.int64) for name in floats}

    def add(self, part: str, size: int, stamp: int, tables: Iterable[pa.Table]) -> None:
        """A part's rows in order: tables of the schema. size: of the part, in bytes. stamp: see `Dataset.stamps`."""
        rows = 0
        for table in tables:
            rows += len(table)
            self._waiting.append(table)
            for name, counts in self._counts.items():
                counts += digit_counts(keys_of(_numbers(table[name])), 0)
            if sum(map(len, self._waiting)) >= 2 * _ROWS or sum(table.nbytes for table in self._waiting) >= _BYTES:
                self._flush()
        self._parts.append((part, size, stamp, rows))
        if sum(map(len, self._waiting)) >= _ROWS:
            self._flush()

    def close(self) -> None:
        self._flush()
        present = {name: np.flatnonzero(counts) for name, counts in self._counts.items()}
        histograms = {n: (digits.tolist(), self._counts[n][digits].tolist()) for n, digits in present.items()}
        footer = {"format": FORMAT, "parts": self._parts, "histograms": histograms}
        packed = base64.b64encode(zlib.compress(json.dumps(footer).encode()))
        self._writer.add_key_value_metadata({_FOOTER: packed})
        self._writer.close()

    def _flush(self) -> None:
        if self._waiting:
            table = pa.concat_tables(self._waiting).unify_dictionaries()
            self._writer.write_table(table, row_group_size=max(1, len(table)))
            self._waiting = []


def read_narrow_file(file: BinaryIO, name: str, size: int, schema: pa.Schema) -> NarrowFile | None:
    """What a file holds; None for one that is damaged, of other columns, or of another format."""
    try:
        metadata = pq.ParquetFile(file).metadata
        footer = json.loads(zlib.decompress(base64.b64decode((metadata.metadata or {})[_FOOTER])))
        if footer["format"] != FORMAT or not metadata.schema.to_arrow_schema().equals(schema):
            return None
        parts, sizes, stamps, rows = zip(*footer["parts"], strict=True) if footer["parts"] else ((), (), (), ())
        starts = (0, *np.cumsum(rows, dtype=np.int64).tolist())
        if starts[-1] != metadata.num_rows:
            return None
        histograms = {name: (tuple(d), tuple(t)) for name, (d, t) in footer["histograms"].items()}
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, zlib.error):
        return None
    return NarrowFile(name, size, parts, sizes, stamps, starts, histograms, footer=metadata)


def check_narrow_file(file: BinaryIO, told: NarrowFile) -> None:
    """Read all that the file has of these parts. An error of Arrow or of the storage where it is damaged."""
    parquet, start = pq.ParquetFile(file, page_checksum_verification=True), 0
    for number in range(parquet.metadata.num_row_groups):
        stop = start + parquet.metadata.row_group(number).num_rows
        if start < told.starts[-1] and stop > told.starts[0]:
            for _ in parquet.iter_batches(row_groups=[number]):
                pass
        start = stop


def tables_of_part(file: BinaryIO, schema: pa.Schema, forgotten: Rows | None) -> Iterator[pa.Table]:
    """A part's rows as a file of the narrow table has them. ValueError for a sha256 that is none."""
    part, start = pq.ParquetFile(file, pre_buffer=True), 0
    for groups in _bunches([part.metadata.row_group(n).num_rows for n in range(part.metadata.num_row_groups)]):
        table = blanked(part.read_row_groups(groups, columns=schema.names), forgotten, start)
        start += len(table)
        if "sha256" in schema.names:
            position = table.schema.get_field_index("sha256")
            table = table.set_column(position, schema.field("sha256"), packed_hex(table["sha256"]))
        yield table.select(schema.names).cast(schema)


class NarrowReader:
    """Some columns of rows of a file of the narrow table, as they are stored. Who asks in the order of the rows gets
    each row group by one read."""

    def __init__(self, file: BinaryIO, columns: Sequence[str], footer: pq.FileMetaData | None = None) -> None:
        self._file, self._columns = pq.ParquetFile(file, metadata=footer, pre_buffer=True), list(columns)
        metadata = self._file.metadata
        self._ends = np.cumsum([0, *(metadata.row_group(n).num_rows for n in range(metadata.num_row_groups))]).tolist()
        self._groups: dict[int, pa.Table] = {}

    def rows(self, start: int, stop: int) -> pa.Table:
        """The rows from `start` to `stop`."""
        groups = [n for n, end in enumerate(self._ends[1:]) if self._ends[n] < stop and end > start]
        if not groups:
            return pa.table({name: pa.array([], self._file.schema_arrow.field(name).type) for name in self._columns})
        self._groups = {n: self._groups[n] if n in self._groups else self._read(n) for n in groups}
        return pa.concat_tables(self._groups.values()).slice(start - self._ends[groups[0]], stop - start)

    def _read(self, group: int) -> pa.Table:
        return self._file.read_row_group(group, columns=self._columns).select(self._columns)


def packed_hex(column: pa.ChunkedArray) -> pa.Array:
    """64 hexadecimal digits -> 32 bytes. ValueError for anything else."""
    array = column.combine_chunks() if column.num_chunks else pa.array([], pa.string())
    present, valid = array.drop_null(), array.is_valid()
    digits = "".join(present.to_pylist())
    data = bytes.fromhex(digits)
    if data.hex() != digits or (len(present) and not pc.all(pc.equal(pc.binary_length(present), 64)).as_py()):
        raise ValueError("not the digits of a sha256")
    values = np.zeros((len(array), 32), np.uint8)
    values[valid.to_numpy(zero_copy_only=False)] = np.frombuffer(data, np.uint8).reshape(-1, 32)
    bits = pa.array(valid.to_numpy(zero_copy_only=False)).buffers()[1]
    return pa.Array.from_buffers(SHA256, len(array), [bits, pa.py_buffer(values)])


def unpacked_hex(column: pa.ChunkedArray) -> pa.Array:
    """The other way."""
    values = [None if value is None else value.hex() for value in column.to_pylist()]
    return pa.array(values, pa.string())


def _numbers(column: pa.ChunkedArray) -> np.ndarray:
    numbers = column.drop_null().to_numpy().astype(np.float64)
    return numbers[~np.isnan(numbers)]


def _bunches(rows: Sequence[int]) -> Iterator[list[int]]:
    """Row groups that are read together: about as many rows as a row group of the narrow table has at least."""
    bunch: list[int] = []
    for number, count in enumerate(rows):
        if bunch and sum(rows[n] for n in bunch) + count > _ROWS:
            yield bunch
            bunch = []
        bunch.append(number)
    if bunch:
        yield bunch
