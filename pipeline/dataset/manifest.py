"""The manifest: a row for each committed part, with its counts and times. Held in columns: there may be a million."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..records import Shard, ShardStats
from .manifest_rows import SCHEMA, Held, Rows, in_pieces, rows_in
from .memory import give_back
from .part import unpacked
from .totals import Totals

_MAPS = [field.name for field in SCHEMA if pa.types.is_map(field.type)]
_ATTRIBUTES = {"shard": "url", "bytes": "part_bytes"}  # of ShardStats, where columns are called otherwise
_CHUNK = 1024  # parts that are Python's objects at a time; such an object takes ten times its row
STAMP_BITS = 20  # of a stamp, besides the part's bytes
_BATCH = 1 << 15  # rows added up, or packed, at a time


@dataclass(frozen=True)
class Manifest:
    """A shard has one row, or several of which the last counts. A choice of rows copies none of them."""

    _stores: tuple[Rows, ...]
    _rows: npt.NDArray[np.int64] | None = None  # the chosen ones, in their order; None stands for all

    @classmethod
    def of(cls, stats: Iterable[ShardStats] = ()) -> Manifest:
        stats, tables = iter(stats), [SCHEMA.empty_table()]
        while chunk := list(islice(stats, _CHUNK)):
            tables.append(pa.table([_column(field, chunk) for field in SCHEMA], schema=SCHEMA))
        return cls((Held(pa.concat_tables(tables)),))

    @classmethod
    def unpacked(cls, content: bytes) -> Manifest:
        """As `packed` makes it, or an earlier clipmill did. KeyError for a table of other columns, an error of Arrow
        for anything else."""
        if "waits" in pq.read_schema(io.BytesIO(content)).names:
            return cls((Held(_of_earlier(unpacked(content))),))
        return cls((rows_in(content),))

    def packed(self) -> bytes:
        file = io.BytesIO()
        self.write(file)
        return file.getvalue()

    def write(self, file: BinaryIO | Path) -> None:
        """As Parquet, a piece at a time."""
        # nearly all values differ
        with pq.ParquetWriter(file, SCHEMA, compression="zstd", use_dictionary=False) as writer:
            for piece in self._pieces(_BATCH):
                writer.write_table(piece)

    def __len__(self) -> int:
        return sum(map(len, self._stores)) if self._rows is None else len(self._rows)

    def __iter__(self) -> Iterator[ShardStats]:
        for piece in self._pieces(_BATCH):
            for batch in piece.to_batches(_CHUNK):
                yield from map(_stats, batch.to_pylist())

    def __add__(self, later: Manifest) -> Manifest:
        stores = self._stores + later._stores
        if self._rows is None and later._rows is None:
            return Manifest(stores)
        return Manifest(stores, np.concatenate([self._chosen, later._chosen + sum(map(len, self._stores))]))

    @property
    def urls(self) -> list[str]:
        urls: list[str] = self.column("shard").to_pylist()
        return urls

    @property
    def totals(self) -> Totals:
        """Of all rows, added up in columns: a million take seconds, and no object each."""
        totals = Totals()
        for piece in self._pieces(_BATCH):
            for rows in piece.combine_chunks().to_batches():
                totals += _totals(rows)
        give_back()
        return totals

    def column(self, name: str) -> pa.ChunkedArray:
        chunks = [chunk for store in self._stores for chunk in store.column(name).chunks]
        column = pa.chunked_array(chunks, SCHEMA.field(name).type)
        return column if self._rows is None else column.take(self._rows)

    @property
    def stamps(self) -> npt.NDArray[np.int64]:
        """Of each row a number that changes when its part is made anew, even to the same size: from its bytes, and from
        how long it took to make."""
        seconds = pc.map_lookup(self.column("seconds"), pa.scalar("total"), "first").fill_null(0.0).to_numpy()
        mixed = (seconds.view(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(64 - STAMP_BITS)
        return (self.column("bytes").to_numpy() << STAMP_BITS) | mixed.astype(np.int64)

    def latest(self) -> Manifest:
        """One row a shard, its last one."""
        places = pa.table({"shard": self.column("shard"), "place": np.arange(len(self))})
        last = places.group_by("shard").aggregate([("place", "max")])["place_max"]
        return self if len(last) == len(self) else self._choice(np.sort(last.to_numpy()))

    def true_to(self, names: pa.Array, sizes: pa.Array, by: str = "shard") -> Manifest:
        """The rows of parts that have not changed. names: of shards or of parts; sizes: of the parts, in bytes; a part
        of another size was made anew."""
        places = pc.index_in(self.column(by), value_set=names)
        fits = pc.equal(sizes.take(places.combine_chunks()), self.column("bytes")).fill_null(False).to_numpy()
        return self if fits.all() else self._choice(np.flatnonzero(fits))

    def under(self, parts: Iterable[str]) -> Manifest:
        """The same with these names of parts."""
        index = SCHEMA.get_field_index("part")
        table = pa.concat_tables([SCHEMA.empty_table(), *self._pieces(_BATCH)])
        return Manifest((Held(table.set_column(index, SCHEMA.field(index), pa.array(list(parts), pa.string()))),))

    def only(self, urls: Iterable[str]) -> Manifest:
        """The rows of these shards, in this order. Shards without a row are passed over."""
        return self._choice(self._places(urls).drop_null().to_numpy())

    def among(self, urls: Iterable[str]) -> Manifest:
        """The rows of these shards, in the order in which they are here."""
        return self._choice(np.sort(self._places(urls).drop_null().to_numpy()))

    def lacks(self, urls: Iterable[str] | pa.Array) -> set[str]:
        """Those of the shards that have no row."""
        wanted = _strings(urls)
        return set(wanted.filter(self._places(wanted).is_null()).to_pylist())

    def _places(self, urls: Iterable[str] | pa.Array) -> pa.Array:
        """Where the last row of each shard is; null where it has none."""
        wanted = _strings(urls)
        backwards = self.column("shard").take(np.arange(len(self))[::-1])
        return pc.subtract(len(self) - 1, pc.index_in(wanted, value_set=backwards).cast(pa.int64()))

    def _choice(self, places: npt.NDArray[np.int64]) -> Manifest:
        return self if np.array_equal(places, np.arange(len(self))) else Manifest(self._stores, self._chosen[places])

    @property
    def _chosen(self) -> npt.NDArray[np.int64]:
        return np.arange(len(self)) if self._rows is None else self._rows

    def _pieces(self, size: int) -> Iterator[pa.Table]:
        return in_pieces(self._tables(), size)

    def _tables(self) -> Iterator[pa.Table]:
        tables = (table for store in self._stores for table in store.tables())
        if self._rows is None:
            yield from tables
        elif np.all(np.diff(self._rows) > 0):
            yield from _chosen_of(tables, self._rows)
        else:
            yield pa.concat_tables(list(tables)).take(self._rows)


def _chosen_of(tables: Iterable[pa.Table], rows: npt.NDArray[np.int64]) -> Iterator[pa.Table]:
    """Some rows, of which one table after the other is in memory. rows: numbers over all tables, ascending."""
    start = 0
    for table in tables:
        first, last = np.searchsorted(rows, [start, start + len(table)])
        if last - first == len(table) > 0:
            yield table
        elif last > first:
            yield table.take(rows[first:last] - start)
        start += len(table)


def _strings(urls: Iterable[str] | pa.Array) -> pa.Array:
    return urls if isinstance(urls, pa.Array) else pa.array(list(urls), pa.string())


def _column(field: pa.Field, chunk: Sequence[ShardStats]) -> pa.Array:
    """One value of each. No object a row: Python's collector would look through them while the driver waits."""
    if field.name == "part":
        return pa.array([Shard(stats.url).part_name for stats in chunk], field.type)
    values = [getattr(stats, _ATTRIBUTES.get(field.name, field.name)) for stats in chunk]
    if not pa.types.is_map(field.type):
        return pa.array(values, field.type)
    offsets = np.cumsum([0, *map(len, values)], dtype=np.int32)
    keys = pa.array([key for value in values for key in value], field.type.key_type)
    items = pa.array([item for value in values for item in value.values()], field.type.item_type)
    return pa.MapArray.from_arrays(offsets, keys, items)


def _stats(row: dict[str, Any]) -> ShardStats:
    return ShardStats(
        row["shard"],
        row["rows"],
        row["embedded"],
        Counter(dict(row["failures"])),
        dict(row["seconds"]),
        row["bytes"],
        dict(row["starved"]),
        dict(row["blocked"]),
        flop=row["flop"],
        peak=row["peak"],
        half_pairs=Counter(dict(row["half_pairs"])),
        notes=Counter(dict(row["notes"])),
    )


def _totals(rows: pa.RecordBatch) -> Totals:
    """As `Totals.add` would add them."""
    sums = {name: _sums(rows[name]) for name in _MAPS}
    total, worker = _times(rows, "total"), _times(rows, "worker")
    sums["seconds"]["worker"] = np.nansum(np.where(np.isnan(worker), total, worker)).item()  # old parts do not tell it
    peak = rows["peak"].to_numpy()
    return Totals(
        shards=len(rows),
        rows=pc.sum(rows["rows"]).as_py(),
        embedded=pc.sum(rows["embedded"]).as_py(),
        part_bytes=pc.sum(rows["bytes"]).as_py(),
        watched=float(np.nansum(total[np.diff(rows["blocked"].offsets) > 0])),
        flop=float(rows["flop"].to_numpy()[peak > 0].sum()),
        possible=float(peak @ np.nan_to_num(_times(rows, "encode"))),
        affordable=float(peak @ np.nan_to_num(worker)),
        **sums,
    )


def _times(rows: pa.RecordBatch, stage: str) -> npt.NDArray[np.float64]:
    """Seconds of one stage, of each row; NaN where a row does not tell."""
    maps = rows["seconds"]
    offsets = maps.offsets.to_numpy()
    entries = np.flatnonzero(pc.equal(maps.keys[offsets[0] : offsets[-1]], stage)) + offsets[0]
    times = np.full(len(rows), np.nan)
    times[np.searchsorted(offsets, entries, side="right") - 1] = maps.items.to_numpy(zero_copy_only=False)[entries]
    return times


def _sums(maps: pa.MapArray) -> Counter[str]:
    """What each key has in all."""
    first, last = maps.offsets[0].as_py(), maps.offsets[-1].as_py()  # the array may be a slice, its keys are not
    entries = pa.table({"key": maps.keys[first:last], "value": maps.items[first:last]})
    added = entries.group_by("key").aggregate([("value", "sum")])
    return Counter(dict(zip(added["key"].to_pylist(), added["value_sum"].to_pylist(), strict=True)))


def _of_earlier(table: pa.Table) -> pa.Table:
    """Before November 2026 ended, what are maps now was JSON."""
    rows = table.to_pylist()
    for row in rows:
        row |= json.loads(row.pop("waits"))
        row |= {name: json.loads(row[name]) for name in _MAPS if isinstance(row.get(name), str)}
        row |= {name: list(row[name].items()) for name in _MAPS}
    if rows and set(rows[0]) != set(SCHEMA.names):
        raise KeyError(*(set(SCHEMA.names) ^ set(rows[0])))
    return pa.Table.from_pylist(rows, schema=SCHEMA)
