"""What must be forgotten: rows that no step may read, though parts may hold them still.

`.clipmill/forgotten.parquet` is what was asked for: digests of uids, urls, sha256 and keys, never the values. Which
rows of which parts these are is found by looking through the parts, once each; `.clipmill/forgotten/` keeps what was
found, a cache. A part that is made anew or comes later is looked through when the dataset is opened, so that what was
forgotten stays so when it comes again.

A forgotten row reads as a failed row of which nothing is known: its place stays, all else is gone, and `error` says
why. A purge (pipeline/forgetting) writes parts that hold just that.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..errors import ClipmillError, InputError
from .layout import OWN, part_path
from .manifest import STAMP_BITS
from .output import Output
from .part import unpacked

Kind = Literal["uid", "url", "sha256", "key"]  # the columns by which rows are named
KINDS: tuple[Kind, ...] = get_args(Kind)
Batch = TypeVar("Batch", pa.Table, pa.RecordBatch)
Rows = npt.NDArray[np.int32]  # of a part, ascending

ASKED = f"{OWN}/forgotten.parquet"
FOUND = f"{OWN}/forgotten"
REASON = "forgotten: on request"  # a forgotten row's error
PLACE = ("shard", "row")  # columns that stay

ASKED_SCHEMA = pa.schema([("by", pa.string()), ("digest", pa.binary(32)), ("at", pa.timestamp("s", "UTC"))])
_FOUND = pa.schema(
    [
        ("part", pa.string()),
        ("stamp", pa.int64()),  # of the part
        ("shard", pa.string()),  # null where no row is forgotten
        ("rows", pa.list_(pa.int32())),
        ("pending", pa.int64()),  # how many of the rows the part holds still
    ]
)
_AT_ONCE = 16  # parts looked through, or files read


def digest_of(kind: Kind, value: object, shard: str = "") -> bytes:
    """What is remembered of a value. A key means something in its shard alone."""
    text = str(value).lower() if kind == "sha256" else str(value)
    return hashlib.sha256("\0".join((kind, shard, text)).encode("utf-8", "surrogatepass")).digest()


@dataclass(frozen=True)
class Asked:
    """identity: changes with what is asked for."""

    table: pa.Table  # of by, digest, at
    identity: str

    @classmethod
    def read(cls, output: Output) -> Asked | None:
        """None where nothing was ever asked for. InputError for a damaged file: rows in it must not come back."""
        content = output.read(ASKED)
        if content is None:
            return None
        try:
            return cls(unpacked(content).cast(ASKED_SCHEMA), hashlib.sha256(content).hexdigest())
        except (pa.ArrowException, OSError, ValueError) as error:
            raise InputError(f"{output.url}/{ASKED} is damaged: restore it, or delete it and forget again") from error

    @staticmethod
    def packed(table: pa.Table) -> bytes:
        file = io.BytesIO()
        pq.write_table(table.cast(ASKED_SCHEMA), file, compression="zstd")
        return file.getvalue()

    def digests(self) -> dict[str, frozenset[bytes]]:
        """By kind; kinds that were not asked for are not in it."""
        by, digests = self.table["by"], self.table["digest"]
        return {kind: frozenset(digests.filter(pc.equal(by, kind)).to_pylist()) for kind in by.unique().to_pylist()}


@dataclass(frozen=True)
class FoundRows:
    """The forgotten rows of a part."""

    shard: str
    rows: Rows
    pending: int  # how many of them the part holds still

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.rows.tobytes()).hexdigest()

    @property
    def mark(self) -> int:
        """What a part's stamp is changed by, so that what was made of it before counts as made of another part."""
        return int(self.digest[: STAMP_BITS // 4], 16) or 1


@dataclass(frozen=True)
class Forgotten:
    """The forgotten rows of a dataset's parts. Cheap to send to workers, unless they are millions."""

    identity: str = ""  # of what was asked for
    parts: Mapping[str, FoundRows] = field(default_factory=dict)  # only those that have such rows

    def only(self, parts: Iterable[str]) -> Forgotten:
        return replace(self, parts={part: self.parts[part] for part in parts if part in self.parts})

    def held_in(self, parts: Iterable[str]) -> dict[str, FoundRows]:
        """Of these parts, those that hold forgotten rows still. After a purge, parts are as they read."""
        return {part: of_part for part in parts if (of_part := self.parts.get(part)) is not None and of_part.pending}

    def rows(self, part: str) -> Rows | None:
        """The rows to blank; None where there are none."""
        return of_part.rows if (of_part := self.held_in((part,)).get(part)) else None

    def marked(self, parts: Sequence[str], stamps: Sequence[int]) -> tuple[int, ...]:
        """The parts' stamps, changed where rows are forgotten."""
        if not self.parts:
            return tuple(stamps)
        marks = (self.parts[part].mark if part in self.parts else 0 for part in parts)
        return tuple(stamp ^ mark for stamp, mark in zip(stamps, marks, strict=True))

    @property
    def pending(self) -> int:
        """How many rows their parts hold still."""
        return sum(of_part.pending for of_part in self.parts.values())


def blanked(batch: Batch, rows: Rows | Iterable[int] | None, start: int = 0) -> Batch:
    """Some rows of a part, with nothing in those that are forgotten. rows: these, counted through the part; start: the
    batch's first row."""
    if rows is None:
        return batch
    places = np.asarray(rows, np.int64) - start
    places = places[(places >= 0) & (places < len(batch))]
    if not len(places):
        return batch
    gone = np.zeros(len(batch), np.bool_)
    gone[places] = True
    mask = pa.array(gone)
    columns = [_blanked(batch.column(n), field, mask) for n, field in enumerate(batch.schema)]
    table = pa.table(columns, schema=batch.schema)
    return table if isinstance(batch, pa.Table) else table.combine_chunks().to_batches()[0]


def _blanked(column: pa.Array | pa.ChunkedArray, field: pa.Field, gone: pa.Array) -> pa.Array | pa.ChunkedArray:
    if field.name in PLACE:
        return column
    if field.name in ("key", "error"):
        return pc.if_else(gone, "" if field.name == "key" else REASON, column)
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if pa.types.is_fixed_size_list(field.type):
        size = field.type.list_size
        values = whole.values.slice(whole.offset * size, len(whole) * size).to_numpy(zero_copy_only=False)
        values, mask = values.copy().reshape(-1, size), gone.to_numpy(zero_copy_only=False)
        values[mask] = 0
        missing = mask | whole.is_null().to_numpy(zero_copy_only=False)
        child = pa.array(values.reshape(-1), field.type.value_type)
        return pa.FixedSizeListArray.from_arrays(child, type=field.type, mask=pa.array(missing))
    places = pa.array(np.arange(len(whole)), mask=gone.to_numpy(zero_copy_only=False))
    return whole.take(places)


def forgotten_in(output: Output, parts: Sequence[str], stamps: Sequence[int]) -> Forgotten:
    """stamps: the parts' own. Parts that nobody has looked through yet are looked through."""
    asked = Asked.read(output)
    if asked is None:
        return Forgotten()
    known = read_found(output, asked.identity)
    there = dict(zip(parts, stamps, strict=True))
    new = [part for part, stamp in there.items() if (part, stamp) not in known]
    if new:
        look = LookThrough(output, asked.digests())
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="forgotten") as pool:
            found = {(part, there[part]): rows for part, rows in zip(new, pool.map(look, new), strict=True)}
        with suppress(ClipmillError, OSError):  # who may only read looks through them each time
            write_found(output, asked.identity, found)
        known |= found
    chosen = {part: rows for part, stamp in there.items() if (rows := known[part, stamp]) is not None}
    return Forgotten(asked.identity, chosen)


def asked_for(rows: Batch, digests: Mapping[str, frozenset[bytes]], shard: str) -> npt.NDArray[np.bool_]:
    """Which rows of a shard are asked for. digests: see `Asked`; columns that the rows lack tell nothing."""
    asked = np.zeros(len(rows), np.bool_)
    for kind in KINDS:
        if kind in digests and kind in rows.schema.names:
            wanted, of = digests[kind], shard if kind == "key" else ""
            values = rows.column(kind).to_pylist()
            asked |= np.array([v is not None and digest_of(kind, v, of) in wanted for v in values], np.bool_)
    return asked


Found = dict[tuple[str, int], FoundRows | None]  # by part and stamp; None where no row is forgotten


@dataclass(frozen=True)
class LookThrough:
    """Finds the forgotten rows of a part. Cheap to send to workers."""

    output: Output
    digests: Mapping[str, frozenset[bytes]]  # see `Asked`

    def __call__(self, part: str) -> FoundRows | None:
        with self.output.open(part_path(part)) as file:
            parquet = pq.ParquetFile(file, pre_buffer=True)
            kinds = [kind for kind in self.digests if kind in parquet.schema_arrow.names]
            table = parquet.read([*kinds, "shard", "error"], use_threads=False)
        if not len(table):
            return None
        shard = table["shard"][0].as_py()
        blank = pc.fill_null(pc.equal(table["error"], REASON), False).to_numpy(zero_copy_only=False)
        holds = asked_for(table, self.digests, shard) & ~blank
        rows = np.flatnonzero(holds | blank).astype(np.int32)
        return FoundRows(shard, rows, int(holds.sum())) if len(rows) else None


def read_found(output: Output, identity: str) -> Found:
    """What was found for what is asked for now. What cannot be read is found again."""
    names = sorted(name for name in output.names(FOUND) if name.startswith(identity[:16]))
    known: Found = {}
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="forgotten") as pool:
        for content in pool.map(output.read, (f"{FOUND}/{name}" for name in names)):
            with suppress(pa.ArrowException, OSError, ValueError):
                known |= _entries(unpacked(content or b"").cast(_FOUND))
    return known


def _entries(table: pa.Table) -> Found:
    lists = table["rows"].combine_chunks()
    values, ends = lists.values.to_numpy(zero_copy_only=False), lists.offsets.to_numpy()
    plain = zip(*(table[name].to_pylist() for name in ("part", "stamp", "shard", "pending")), strict=True)
    return {
        (part, stamp): FoundRows(shard, values[ends[n] : ends[n + 1]], pending) if shard is not None else None
        for n, (part, stamp, shard, pending) in enumerate(plain)
    }


def write_found(output: Output, identity: str, found: Found, alone: bool = False) -> None:
    """alone: these are all; the files of before are deleted."""
    before = output.names(FOUND) if alone else ()
    name = f"{identity[:16]}-{hashlib.sha256(repr(sorted(found)).encode()).hexdigest()[:16]}.parquet"
    rows = [of_part.rows if of_part else np.empty(0, np.int32) for of_part in found.values()]
    ends = np.cumsum([0, *map(len, rows)]).astype(np.int32)
    columns = [
        pa.array([part for part, _ in found], pa.string()),
        pa.array([stamp for _, stamp in found], pa.int64()),
        pa.array([of_part.shard if of_part else None for of_part in found.values()], pa.string()),
        pa.ListArray.from_arrays(pa.array(ends), pa.array(np.concatenate([np.empty(0, np.int32), *rows]))),
        pa.array([of_part.pending if of_part else 0 for of_part in found.values()], pa.int64()),
    ]
    with output.staged(f"{FOUND}/{name}", replace=True) as path:
        pq.write_table(pa.table(columns, schema=_FOUND), path, compression="zstd")
    for old in before:
        if old != name:
            output.delete(f"{FOUND}/{old}")
