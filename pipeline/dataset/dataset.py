"""A dataset as the steps after embedding read it: its parts in the plan's order, its models, its rows."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..errors import InfrastructureError, InputError
from ..storage.ahead import ahead
from .footer import model_cards, not_a_part, opened_part, read_footer
from .forgotten import ASKED, Forgotten, blanked, forgotten_in
from .layout import SUCCESS, part_path
from .manifest import STAMP_BITS, Manifest
from .manifest_files import MANIFEST, MANY, read_manifest
from .narrow_file import NarrowFile, of_parts
from .output import Output
from .plan import Fingerprint, planned_parts, planned_shards, read_plan
from .queries import Queries
from .side_table import SideTable, open_sides

if TYPE_CHECKING:  # torch takes a second: not before a dataset that is missing is refused
    from ..records import Vectors

_AHEAD = 2  # batches read before they are asked for
_LISTED = 1000  # parts, about, that one request lists


@dataclass(frozen=True)
class DatasetModel:
    """One of the models whose embeddings a dataset holds."""

    alias: str  # empty for the only one
    variant: str
    weights: str  # a release's tag or a file's name
    weights_sha256: str
    dim: int

    @property
    def prefix(self) -> str:
        """The prefix of its columns' names."""
        return f"{self.alias}_" if self.alias else ""


@dataclass(frozen=True)
class Dataset(Queries):
    """The parts that `embed` has committed so far. Cheap to send to workers. See `Queries` for their rows in Python."""

    output: Output
    settings: Fingerprint
    parts: tuple[str, ...]  # names, in the plan's order; one at least
    sizes: tuple[int, ...]  # of the parts, in bytes
    stamps: tuple[int, ...]  # of the parts: what is made of one holds as long as its stamp is the same
    schema: pa.Schema
    models: tuple[DatasetModel, ...]
    version: str  # changes when a part is added or made anew, and when rows are forgotten
    narrow: tuple[NarrowFile, ...] = ()  # where rows of the parts lie, too: see narrow.py
    forgotten: Forgotten = field(default_factory=Forgotten)  # rows that read as if nothing was known of them
    sides: tuple[SideTable, ...] = ()  # joined: SQL has their columns as `alias.column`

    @classmethod
    def open(cls, url: str, storage_options: Mapping[str, Any] | None = None) -> Dataset:
        """InputError for a folder that is not a dataset, and for a dataset without parts yet."""
        output, settings = begun_at(url, storage_options)
        with ThreadPoolExecutor(thread_name_prefix="dataset") as pool:  # questions that need no other's answer
            manifest = pool.submit(read_manifest, output)
            committed = _committed(output, manifest)
            if not committed:
                raise InputError(f"{url}: nothing is embedded yet; run `clipmill embed` first")
            parts, sizes = tuple(committed), tuple(committed.values())
            stamps = _stamps(parts, sizes, manifest.result())
            forgetting, content = pool.submit(forgotten_in, output, parts, stamps), pool.submit(output.read, MANIFEST)
            first = output.url_of(parts[0])
            with output.open(part_path(parts[0]), sizes[0]) as file:
                part = opened_part(file, first)
                models = _models(model_cards(part.metadata.metadata or {}, first), first)
                schema = part.schema_arrow.remove_metadata()
            forgotten = forgetting.result()
        told = repr((parts, sizes)) + forgotten.identity
        version = hashlib.sha256(told.encode() + (content.result() or b"")).hexdigest()
        stamps = forgotten.marked(parts, stamps)
        return cls(output, settings, parts, sizes, stamps, schema, models, version, forgotten=forgotten)

    @property
    def url(self) -> str:
        return self.output.url

    def only(self, parts: Collection[str]) -> Dataset:
        """The same dataset, of these parts alone."""
        wanted = set(parts)
        kept = [n for n, part in enumerate(self.parts) if part in wanted]
        return replace(
            self,
            parts=tuple(self.parts[n] for n in kept),
            sizes=tuple(self.sizes[n] for n in kept),
            stamps=tuple(self.stamps[n] for n in kept),
            narrow=of_parts(self.narrow, wanted),
        )

    @property
    def own_stamps(self) -> tuple[int, ...]:
        """The parts' stamps as if no row was forgotten."""
        return self.forgotten.marked(self.parts, self.stamps)  # twice changed is as it was

    def join(self, folders: Mapping[str, str]) -> Dataset:
        """The same dataset with side tables: SQL sees `alias.column`, by place, part by part.

        folders: by alias, each with a Parquet file for every part, of its name and with its rows in order; `shard` and
        `row` are compared when the files are read. UserError for an alias that cannot be one, InputError for a folder
        that does not fit.
        """
        aliases = (side.alias for side in self.sides)
        sides = open_sides(folders, self.output, self.parts, [*self.schema.names, *aliases])
        return replace(self, sides=(*self.sides, *map(_as_it_reads, sides)))

    @property
    def types(self) -> dict[str, pa.DataType]:
        """Of all columns by name, those of side tables as `alias.column`."""
        own = {field.name: field.type for field in self.schema}
        beside = {f"{side.alias}.{field.name}": field.type for side in self.sides for field in side.schema}
        return own | {name: kind for name, kind in beside.items() if name not in own}

    def side_of(self, name: str) -> tuple[SideTable, str] | None:
        """The side table that has the column `alias.column`, and the column; None for one of the dataset's own."""
        alias, _, column = name.partition(".")
        if name in self.schema.names:
            return None
        return next(((s, column) for s in self.sides if s.alias == alias and column in s.schema.names), None)

    def __repr__(self) -> str:
        models = ", ".join(model.variant for model in self.models)
        joined = "".join(f"; {side.alias}={side.url}: {', '.join(side.schema.names)}" for side in self.sides)
        columns = ", ".join(self.schema.names)
        parts = "1 part" if len(self.parts) == 1 else f"{len(self.parts):,} parts"
        return f"Dataset({self.url}: {parts}, of {models}; {columns}{joined})"

    def _of(self) -> tuple[Dataset, tuple[str, ...]]:
        return self, ()

    def url_of(self, part: str) -> str:
        return self.output.url_of(part)

    def shards(self) -> list[str]:
        """URLs of the shards that the parts were made from, in the same order."""
        by_part = {shard.part_name: shard.url for shard in planned_shards(self.output)}
        return [by_part[part] for part in self.parts]

    def model(self, alias: str | None = None) -> DatasetModel:
        """The model of that alias; without an alias, the only or first model. InputError for an unknown alias."""
        for model in self.models:
            if alias in (None, model.alias):
                return model
        names = ", ".join(model.alias or "(no alias)" for model in self.models)
        raise InputError(f"{self.url}: no model is called {alias!r}; its models are {names}")

    def same_model(self, model: DatasetModel, name: str, other: str) -> DatasetModel:
        """This dataset's model of the same weights. InputError where there is none. name: what errors call this
        dataset; other: the model's."""
        same = next((mine for mine in self.models if mine.weights_sha256 == model.weights_sha256), None)
        if same is None:
            names = ", ".join(f"{mine.variant} ({mine.weights})" for mine in self.models)
            raise InputError(
                f"{name} was made with {names}, but {other} with {model.variant} ({model.weights}); name a dataset of "
                "the same weights"
            )
        return same

    def model_cards(self) -> Any:
        """The only model's card, or the cards by alias, as the parts' footers have them."""
        with self.output.open(part_path(self.parts[0])) as file:
            return model_cards(read_footer(file, self.url_of(self.parts[0])), self.url_of(self.parts[0]))

    def read(self, part: str, columns: Sequence[str]) -> pa.Table:
        """Some columns of all rows of a part."""
        with self.output.open(part_path(part)) as file:
            table = pq.ParquetFile(file, pre_buffer=True).read(list(columns))  # neighbouring columns in one request
        return blanked(table, self.forgotten.rows(part))

    def take(self, part: str, rows: Sequence[int], columns: Sequence[str]) -> pa.Table:
        """Some columns of some rows of a part, ascending from 0. Only the row groups that hold them are read."""
        tables, start, forgotten = [], 0, self.forgotten.rows(part)
        with self.output.open(part_path(part)) as source:
            file = pq.ParquetFile(source, pre_buffer=True)
            for number in range(file.metadata.num_row_groups):
                stop = start + file.metadata.row_group(number).num_rows
                if inside := [row - start for row in rows if start <= row < stop]:
                    group = blanked(file.read_row_group(number, columns=list(columns)), forgotten, start)
                    tables.append(group.take(inside))
                start = stop
        return pa.concat_tables(tables)

    def batches(self, columns: Sequence[str], rows: int = 1 << 14) -> Iterator[pa.RecordBatch]:
        """Some columns of all rows, in the plan's order, streamed: a few batches are in memory."""
        with ahead(self._batches(list(columns), rows), _AHEAD) as batches:
            yield from batches

    def _batches(self, columns: list[str], rows: int) -> Iterator[pa.RecordBatch]:
        for part in self.parts:
            yield from self.batches_of(part, columns, rows)

    def batches_of(self, part: str, columns: Sequence[str], rows: int) -> Iterator[pa.RecordBatch]:
        """Some columns of all rows of a part, as they are asked for."""
        start, forgotten = 0, self.forgotten.rows(part)
        with self.output.open(part_path(part)) as file:
            for batch in pq.ParquetFile(file).iter_batches(rows, columns=list(columns)):
                yield blanked(batch, forgotten, start)
                start += len(batch)


def _as_it_reads(side: SideTable) -> SideTable:
    """Without the rows that must be forgotten, where it is the parts of a dataset."""
    if side.output.read(ASKED) is None:
        return side
    return replace(side, forgotten=Dataset.open(side.output.url, side.output.storage_options).forgotten)


def begun_at(url: str, storage_options: Mapping[str, Any] | None = None) -> tuple[Output, Fingerprint]:
    """A dataset's folder and settings, by its plan alone. InputError for a folder without a plan."""
    output = Output.at(url, storage_options)
    settings = read_plan(output)
    if settings is None:
        raise InputError(f"{url} is not a clipmill dataset: name the folder given to `clipmill embed --out`")
    return output, settings


def _committed(output: Output, manifest: Future[Manifest]) -> dict[str, int]:
    """The parts in the plan's order, and how many bytes each has. Of many that are complete, the manifest tells."""
    parts = planned_parts(output)
    if len(parts) >= MANY and output.read(SUCCESS) is not None:
        latest = manifest.result().latest()
        places = pc.index_in(parts, value_set=latest.column("part"))
        if not places.null_count:
            return dict(zip(parts.to_pylist(), latest.column("bytes").take(places).to_pylist(), strict=True))
    sizes = output.part_sizes(planned_shards(output) if len(parts) > _LISTED else ())
    return {name: sizes[name] for name in parts.to_pylist() if name in sizes}


def _stamps(parts: tuple[str, ...], sizes: tuple[int, ...], manifest: Manifest) -> tuple[int, ...]:
    """The manifest's; of a part that it does not know as it is, one that changes when it does."""
    names, bytes_ = pa.array(parts, pa.string()), np.array(sizes, np.int64)
    known = manifest.true_to(names, pa.array(bytes_), by="part")
    last_first = known.column("part").take(np.arange(len(known))[::-1])  # of several rows the last counts
    places = pc.index_in(names, value_set=last_first)
    stamps = bytes_ << STAMP_BITS
    there = places.is_valid().to_numpy(zero_copy_only=False)
    stamps[there] = known.stamps[::-1][places.drop_null().to_numpy()]
    return tuple(stamps.tolist())


def _models(cards: Mapping[str, Any], url: str) -> tuple[DatasetModel, ...]:
    by_alias = {"": cards} if "variant" in cards else cards
    try:
        return tuple(_model(alias, card) for alias, card in by_alias.items())
    except (KeyError, TypeError) as error:
        raise InfrastructureError(not_a_part(url)) from error


def _model(alias: str, card: Mapping[str, Any]) -> DatasetModel:
    dim = card["config"]["embed_dim"]
    return DatasetModel(alias, card["variant"], card["weights"], card["weights_sha256"], dim)


def vectors_of(column: pa.Array | pa.ChunkedArray) -> tuple[Vectors, npt.NDArray[np.bool_]]:
    """A column of embeddings -> float32 [n, dim], and which rows have one: bool [n]. Rows without one are zero."""
    stored, present = stored_vectors(column)
    return stored.astype(np.float32), present


def stored_vectors(column: pa.Array | pa.ChunkedArray) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
    """As `vectors_of`, in the type of the column: float16 or float32."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ChunkedArray):  # of no chunks at all
        array = pa.array([], column.type)
    dim = array.type.list_size
    start = array.offset * dim
    flat = array.values.slice(start, len(array) * dim).to_numpy(zero_copy_only=False)
    present = array.is_valid().to_numpy(zero_copy_only=False)
    stored = flat.reshape(len(array), dim)
    if not present.all():
        stored = np.where(present[:, None], stored, stored.dtype.type(0))
    return stored, present
