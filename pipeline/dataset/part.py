"""The Parquet part: its schema, its rows, its footer; written and verified on local disk."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from ..choices import EmbeddingType
from ..errors import InfrastructureError
from ..records import Decoded, Positions, Shard, Vectors
from .columns import AFTER, FIRST, LAST, Column
from .sample_columns import sample_columns

SCHEMA_VERSION = 1

Mask = npt.NDArray[np.bool_]

_EMBEDDINGS = {"float16": (pa.float16(), np.float16), "float32": (pa.float32(), np.float32)}


@dataclass(frozen=True)
class Embeddings:
    """One side of some rows."""

    vectors: Vectors  # float32 [n, dim], L2-normalised; zeros where missing
    missing: Mask  # [n]

    @classmethod
    def of(cls, rows: int, dim: int, vectors: Iterable[tuple[Positions, Vectors]]) -> Embeddings:
        """vectors: with the rows that they belong to."""
        side = cls(np.zeros((rows, dim), dtype=np.float32), np.ones(rows, dtype=np.bool_))
        for positions, values in vectors:
            side.vectors[positions] = values
            side.missing[positions] = False
        return side


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

    def samples(self, rows: Sequence[Decoded[Any, Any]]) -> pa.RecordBatch:
        """What is known of decoded samples before a model has seen them: what `table` takes."""
        return sample_columns(rows, self.columns, self.context_length)

    def table(self, shard: Shard, samples: pa.RecordBatch, images: Embeddings, texts: Embeddings) -> pa.Table:
        """The part's rows, in the order of `samples`."""
        arrays = {name: samples.column(name) for name in samples.schema.names}
        arrays["shard"] = pa.DictionaryArray.from_arrays(np.zeros(len(samples), dtype=np.int32), [shard.url])
        for prefix, dims in self._slices():
            image, text = images.vectors[:, dims], texts.vectors[:, dims]
            arrays[f"{prefix}image_embedding"] = self._vectors(image, images.missing)
            arrays[f"{prefix}text_embedding"] = self._vectors(text, texts.missing)
            arrays[f"{prefix}similarity"] = pa.array(similarity(image, text), mask=images.missing | texts.missing)
        return pa.table([arrays[field.name] for field in self.schema], schema=self.schema)

    def _vectors(self, vectors: Vectors, missing: Mask) -> pa.Array:
        values = vectors.astype(_EMBEDDINGS[self.embedding_type][1]).reshape(-1)
        return pa.FixedSizeListArray.from_arrays(pa.array(values), vectors.shape[1], mask=pa.array(missing))


def similarity(images: Vectors, texts: Vectors) -> npt.NDArray[np.float32]:
    """Cosines [n] of L2-normalised float32 vectors [n, dim]."""
    return np.einsum("nd,nd->n", images, texts, dtype=np.float32)


class PartWriter:
    """Writes row groups to a local file; the footer's metadata comes last, when the counts are known."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._writer = pq.ParquetWriter(
            path,
            schema,
            compression="zstd",
            # a dictionary of embeddings costs as much as writing them does, and never pays
            use_dictionary=["shard", "error"],
            write_statistics=[field.name for field in schema if not pa.types.is_fixed_size_list(field.type)],
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


def verify(path: Path, wanted: pa.Schema, rows: int) -> int:
    """Read the written file's footer back; its size in bytes. InfrastructureError where it is not what was meant."""
    try:
        metadata = pq.read_metadata(path)
        schema = metadata.schema.to_arrow_schema()
    except (OSError, pa.ArrowException) as error:
        raise InfrastructureError(f"{path}: what was written cannot be read back: {error}") from error
    if metadata.num_rows != rows or not schema.equals(wanted):
        raise InfrastructureError(f"{path}: {metadata.num_rows} rows were written, not {rows}, or other columns")
    return path.stat().st_size


def unpacked(content: bytes) -> pa.Table:
    """A small file of ours. On this thread alone: a process that ends (with one line for a user, say) while Arrow's
    threads still start may abort, where torch is loaded too."""
    return pq.ParquetFile(io.BytesIO(content), pre_buffer=False).read(use_threads=False)
