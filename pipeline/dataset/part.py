"""The Parquet part: its schema, its rows, its footer; written and verified on local disk."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..choices import EmbeddingType
from ..errors import InfrastructureError, UserError
from ..records import Decoded, Shard, Vector
from .score import similarity

SCHEMA_VERSION = 1

ColumnType = Literal["string", "int64", "float64", "bool"]

_TYPES = {"string": pa.string(), "int64": pa.int64(), "float64": pa.float64(), "bool": pa.bool_()}
_EMBEDDINGS = {"float16": (pa.float16(), np.float16), "float32": (pa.float32(), np.float32)}


@dataclass(frozen=True)
class Column:
    """A column copied from the samples' json (or from the text file, for `caption`)."""

    name: str
    type: ColumnType = "string"

    @classmethod
    def parse(cls, text: str) -> Column:
        """`NAME` or `NAME:TYPE`. UserError for a type that is none, or a name that the part has anyway."""
        name, colon, kind = text.partition(":")
        if colon and kind not in get_args(ColumnType):
            raise UserError(f"column {text!r}: the type must be one of {', '.join(get_args(ColumnType))}")
        if not name:
            raise UserError(f"column {text!r}: no name")
        if name in OWN_COLUMNS:
            raise UserError(f"column {text!r}: the part has a column of that name already")
        return cls(name, kind or "string")  # type: ignore[arg-type]  # checked above

    def value_of(self, row: Decoded) -> Any:
        value = row.caption if self.name == "caption" else row.metadata.get(self.name)
        if value is None:
            return None
        return _CASTS[self.type](value)


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text.encode("utf-8", "replace").decode("utf-8")  # half a surrogate pair is no UTF-8


def _int(value: Any) -> int | None:
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if -(2**63) <= number < 2**63 and (isinstance(value, str) or number == value) else None


def _float(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _bool(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _side(pixels: int | None) -> int | None:
    """A broken image's header may claim more than the column holds, or less than nothing."""
    return pixels if pixels is not None and 0 <= pixels < 2**31 else None


_CASTS = {"string": _text, "int64": _int, "float64": _float, "bool": _bool}

_BEFORE = [pa.field("key", pa.string(), nullable=False)]
_AFTER = [
    pa.field("shard", pa.dictionary(pa.int32(), pa.string()), nullable=False),
    pa.field("row", pa.int32(), nullable=False),
    pa.field("image_offset", pa.int64()),
    pa.field("image_size", pa.int32()),
    pa.field("width", pa.int32()),
    pa.field("height", pa.int32()),
    pa.field("sha256", pa.string()),
    pa.field("caption_tokens", pa.int32()),
    pa.field("caption_truncated", pa.bool_()),
]
OWN_COLUMNS = frozenset(field.name for field in _BEFORE + _AFTER) | {
    "image_embedding", "text_embedding", "similarity", "error",
}  # fmt: skip


@dataclass(frozen=True)
class PartLayout:
    """What a part's columns are; the same for all parts of a dataset."""

    columns: tuple[Column, ...]
    dim: int  # of all models together
    context_length: int
    embedding_type: EmbeddingType = "float16"
    models: tuple[tuple[str, int], ...] = ()  # aliases and their dims, where columns are prefixed

    @property
    def schema(self) -> pa.Schema:
        chosen = [pa.field(column.name, _TYPES[column.type]) for column in self.columns]
        values = []
        for prefix, where in self._places():
            vector = pa.list_(_EMBEDDINGS[self.embedding_type][0], where.stop - where.start)
            values += [pa.field(f"{prefix}image_embedding", vector), pa.field(f"{prefix}text_embedding", vector)]
            values.append(pa.field(f"{prefix}similarity", pa.float32()))
        return pa.schema([*_BEFORE, *chosen, *_AFTER, *values, pa.field("error", pa.string())])

    def _places(self) -> Iterator[tuple[str, slice]]:
        """Each model's prefix, and where its part of a vector is."""
        start = 0
        for alias, dim in self.models or (("", self.dim),):
            yield f"{alias}_" if alias else "", slice(start, start + dim)
            start += dim

    def table(
        self, shard: Shard, rows: Sequence[Decoded], images: Sequence[Vector | None], texts: Sequence[Vector | None]
    ) -> pa.Table:
        """Rows in the order given; images and texts: float32 [dim], L2-normalised, None where there is none."""
        truncated = [n > self.context_length if (n := row.caption_tokens) is not None else None for row in rows]
        arrays = {
            **{column.name: [column.value_of(row) for row in rows] for column in self.columns},
            "key": [row.key for row in rows],
            "shard": pa.DictionaryArray.from_arrays(np.zeros(len(rows), dtype=np.int32), [shard.url]),
            "row": [row.row for row in rows],
            "image_offset": [row.image_offset for row in rows],
            "image_size": [row.image_size for row in rows],
            "width": [_side(row.width) for row in rows],
            "height": [_side(row.height) for row in rows],
            "sha256": [row.sha256 for row in rows],
            "caption_tokens": [row.caption_tokens for row in rows],
            "caption_truncated": truncated,
            "error": [row.error for row in rows],
        }
        for prefix, where in self._places():
            ours, theirs = ([v if v is None else v[where] for v in vectors] for vectors in (images, texts))
            arrays[f"{prefix}image_embedding"] = self._vectors(ours, where.stop - where.start)
            arrays[f"{prefix}text_embedding"] = self._vectors(theirs, where.stop - where.start)
            arrays[f"{prefix}similarity"] = [similarity(a, b) for a, b in zip(ours, theirs, strict=True)]
        return pa.table(
            [
                values if isinstance(values := arrays[field.name], pa.Array) else pa.array(values, field.type)
                for field in self.schema
            ],
            schema=self.schema,
        )

    def _vectors(self, vectors: Sequence[Vector | None], dim: int) -> pa.Array:
        values = np.zeros((len(vectors), dim), dtype=_EMBEDDINGS[self.embedding_type][1])
        for place, vector in enumerate(vectors):
            if vector is not None:
                values[place] = vector
        missing = pa.array([vector is None for vector in vectors], pa.bool_())
        return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), dim, mask=missing)


class PartWriter:
    """Writes row groups to a local file; the footer's metadata comes last, when the counts are known."""

    def __init__(self, path: Path, layout: PartLayout) -> None:
        self._writer = pq.ParquetWriter(
            path,
            layout.schema,
            compression="zstd",
            # a dictionary of embeddings costs as much as writing them does, and never pays
            use_dictionary=["shard", "error"],
            write_statistics=[field.name for field in layout.schema if not pa.types.is_fixed_size_list(field.type)],
        )

    def write(self, table: pa.Table) -> None:
        self._writer.write_table(table, row_group_size=max(1, len(table)))

    def finish(self, footer: Mapping[str, str]) -> None:
        self._writer.add_key_value_metadata(dict(footer))
        self._writer.close()

    def __enter__(self) -> PartWriter:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self._writer.is_open:
            self._writer.close()


def verify(path: Path, layout: PartLayout, rows: int) -> int:
    """Read the written file's footer back; its size in bytes. InfrastructureError where it is not what was meant."""
    try:
        metadata = pq.read_metadata(path)
        schema = metadata.schema.to_arrow_schema()
    except (OSError, pa.ArrowException) as error:
        raise InfrastructureError(f"{path}: what was written cannot be read back: {error}") from error
    if metadata.num_rows != rows or not schema.equals(layout.schema):
        raise InfrastructureError(f"{path}: {metadata.num_rows} rows were written, not {rows}, or other columns")
    return path.stat().st_size


def unpacked(content: bytes) -> pa.Table:
    """A small file of ours. On this thread alone: a process that ends (with one line for a user, say) while Arrow's
    threads still start may abort, where torch is loaded too."""
    return pq.ParquetFile(io.BytesIO(content), pre_buffer=False).read(use_threads=False)
