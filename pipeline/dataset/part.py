"""The Parquet part: its schema, its rows, its footer; written and verified on local disk."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..choices import EmbeddingType
from ..errors import InfrastructureError
from ..records import Decoded, Shard, Vector
from .columns import AFTER, FIRST, LAST, Column

SCHEMA_VERSION = 1

_EMBEDDINGS = {"float16": (pa.float16(), np.float16), "float32": (pa.float32(), np.float32)}


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
        values = []
        for prefix, dims in self._slices():
            vector = pa.list_(_EMBEDDINGS[self.embedding_type][0], dims.stop - dims.start)
            values += [pa.field(f"{prefix}image_embedding", vector), pa.field(f"{prefix}text_embedding", vector)]
            values.append(pa.field(f"{prefix}similarity", pa.float32()))
        return pa.schema([*FIRST, *(column.field for column in self.columns), *AFTER, *values, *LAST])

    def _slices(self) -> Iterator[tuple[str, slice]]:
        """Each model's prefix, and which dimensions of all models' vector are its own."""
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
        for prefix, dims in self._slices():
            image, text = ([v if v is None else v[dims] for v in vectors] for vectors in (images, texts))
            arrays[f"{prefix}image_embedding"] = self._vectors(image, dims.stop - dims.start)
            arrays[f"{prefix}text_embedding"] = self._vectors(text, dims.stop - dims.start)
            arrays[f"{prefix}similarity"] = [similarity(*pair) for pair in zip(image, text, strict=True)]
        return pa.table(
            [
                values if isinstance(values := arrays[field.name], pa.Array) else pa.array(values, field.type)
                for field in self.schema
            ],
            schema=self.schema,
        )

    def _vectors(self, vectors: Sequence[Vector | None], dim: int) -> pa.Array:
        values = np.zeros((len(vectors), dim), dtype=_EMBEDDINGS[self.embedding_type][1])
        for index, vector in enumerate(vectors):
            if vector is not None:
                values[index] = vector
        missing = pa.array([vector is None for vector in vectors], pa.bool_())
        return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), dim, mask=missing)


def similarity(image: Vector | None, text: Vector | None) -> float | None:
    """Cosine of two L2-normalised float32 vectors [dim], or None where one is missing."""
    if image is None or text is None:
        return None
    return float(np.dot(image, text))


def _side(pixels: int | None) -> int | None:
    """None for a width or height that the column cannot hold: a broken image's header may claim anything."""
    return pixels if pixels is not None and 0 <= pixels < 2**31 else None


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
