"""A dataset as the steps after embedding see it: its parts in the plan's order, the models that made it, its rows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import InfrastructureError, InputError
from ..storage.ahead import ahead
from .footer import model_cards, not_a_part, read_footer
from .manifest import MANIFEST
from .output import Output
from .plan import Fingerprint, planned_shards, read_plan

if TYPE_CHECKING:  # torch takes a second: not before a dataset that is missing is refused
    from ..records import Vectors

_AHEAD = 2  # batches read before they are asked for


@dataclass(frozen=True)
class DatasetModel:
    """One of the models whose embeddings a dataset holds."""

    alias: str  # empty for the only one
    variant: str
    weights: str  # in public words: a release's tag, a file's name
    weights_sha256: str
    dim: int

    @property
    def prefix(self) -> str:
        """What the names of its columns begin with."""
        return f"{self.alias}_" if self.alias else ""


@dataclass(frozen=True)
class Dataset:
    """What `embed` has committed so far. Cheap to send to workers."""

    output: Output
    settings: Fingerprint
    parts: tuple[str, ...]  # committed, in the plan's order; one at least
    sizes: tuple[int, ...]  # theirs, in bytes
    schema: pa.Schema
    models: tuple[DatasetModel, ...]
    version: str  # changes when a part is added, or made anew

    @classmethod
    def open(cls, url: str, storage_options: Mapping[str, Any] | None = None) -> Dataset:
        """InputError where nothing was begun or nothing is committed yet."""
        output, settings = begun_at(url, storage_options)
        committed = output.part_sizes()
        parts = tuple(shard.part_name for shard in planned_shards(output) if shard.part_name in committed)
        sizes = tuple(committed[part] for part in parts)
        if not parts:
            raise InputError(f"{url}: nothing is embedded yet; run `clipmill embed` first")
        first = f"{output.url}/{parts[0]}"
        with output.open(parts[0]) as file:
            models = _models(model_cards(read_footer(file, first), first), first)
            file.seek(0)
            schema = pq.ParquetFile(file).schema_arrow.remove_metadata()
        version = hashlib.sha256(repr((parts, sizes)).encode() + (output.read(MANIFEST) or b"")).hexdigest()
        return cls(output, settings, parts, sizes, schema, models, version)

    @property
    def url(self) -> str:
        return self.output.url

    def url_of(self, part: str) -> str:
        return f"{self.output.url}/{part}"

    def model(self, alias: str | None = None) -> DatasetModel:
        """The model of that alias; without one the only, or the first."""
        for model in self.models:
            if alias in (None, model.alias):
                return model
        names = ", ".join(model.alias or "(none)" for model in self.models)
        raise InputError(f"{self.url}: no model is called {alias!r} here; its models: {names}")

    def model_cards(self) -> Any:
        """As the parts' footers have them: the only model's, or by alias."""
        with self.output.open(self.parts[0]) as file:
            return model_cards(read_footer(file, self.url_of(self.parts[0])), self.url_of(self.parts[0]))

    def read(self, part: str, columns: Sequence[str]) -> pa.Table:
        """Some columns of a part, whole."""
        with self.output.open(part) as file:
            return pq.ParquetFile(file).read(list(columns))

    def batches(self, columns: Sequence[str], rows: int = 1 << 14) -> Iterator[pa.RecordBatch]:
        """All rows in the plan's order, some columns, streamed: a few batches in memory."""
        with ahead(self._batches(list(columns), rows), _AHEAD) as batches:
            yield from batches

    def _batches(self, columns: list[str], rows: int) -> Iterator[pa.RecordBatch]:
        for part in self.parts:
            with self.output.open(part) as file:
                yield from pq.ParquetFile(file).iter_batches(rows, columns=columns)


def begun_at(url: str, storage_options: Mapping[str, Any] | None = None) -> tuple[Output, Fingerprint]:
    """Where a dataset is and what it is made with, by its plan alone. InputError where nothing was begun."""
    output = Output.at(url, storage_options)
    settings = read_plan(output)
    if settings is None:
        raise InputError(f"{url}: no dataset of clipmill's here; name the folder given to `clipmill embed --out`")
    return output, settings


def _models(cards: Mapping[str, Any], url: str) -> tuple[DatasetModel, ...]:
    named = {"": cards} if "variant" in cards else cards
    try:
        return tuple(_model(alias, card) for alias, card in named.items())
    except (KeyError, TypeError) as error:
        raise InfrastructureError(not_a_part(url)) from error


def _model(alias: str, card: Mapping[str, Any]) -> DatasetModel:
    dim = card["config"]["embed_dim"]
    return DatasetModel(alias, card["variant"], card["weights"], card["weights_sha256"], dim)


def vectors_of(column: pa.Array | pa.ChunkedArray) -> tuple[Vectors, npt.NDArray[np.bool_]]:
    """A column of embeddings -> float32 [n, dim], and which rows have one: bool [n]. Rows without are zero."""
    stored, present = stored_vectors(column)
    return stored.astype(np.float32), present


def stored_vectors(column: pa.Array | pa.ChunkedArray) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
    """The same in the type that they are stored in, float16 or float32."""
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
