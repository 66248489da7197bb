"""Parquet files of samples, in memory and on disk."""

from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from clipmill.pipeline.choices import USUAL_KEYS, SampleKeys
from clipmill.pipeline.inputs.shards import read_samples
from clipmill.pipeline.records import Sample, Shard
from fsspec.implementations.memory import MemoryFileSystem

STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def pack(columns: dict[str, Any] | pa.Table, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(columns if isinstance(columns, pa.Table) else pa.table(columns), sink, **options)
    return sink.getvalue().to_pybytes()


def in_memory(data: bytes, keys: SampleKeys = USUAL_KEYS) -> list[Sample]:
    MemoryFileSystem().pipe("/shards/x.parquet", data)
    return list(read_samples(Shard("memory://shards/x.parquet"), keys=keys))


def broken_text(*values: bytes | None) -> pa.Array:
    """A string array of bytes that no writer of Python's would let through."""
    array = pa.array(values, pa.binary())
    return pa.StringArray.from_buffers(len(array), array.buffers()[1], array.buffers()[2], array.buffers()[0])
