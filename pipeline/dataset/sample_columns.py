"""The columns of a part that are known before a model has seen a sample, and what is told of samples beside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from ..records import Decoded
from .columns import AFTER, FIRST, LAST, Column

# What a run counts and no part holds.
_TOLD = [pa.field("half_pair", pa.string()), pa.field("notes", pa.list_(pa.string()))]


def sample_columns(rows: Sequence[Decoded[Any, Any]], columns: Sequence[Column], context_length: int) -> pa.RecordBatch:
    """A row for each sample, in order; `shard`, which is one for all of them, is left out."""
    fields = [*FIRST, *(column.field for column in columns), *(f for f in AFTER if f.name != "shard"), *LAST, *_TOLD]
    values = {
        **{column.name: [column.value_of(row) for row in rows] for column in columns},
        "key": [row.key for row in rows],
        "row": [row.row for row in rows],
        "image_offset": [row.image_offset for row in rows],
        "image_size": [row.image_size for row in rows],
        "width": [_side(row.width) for row in rows],
        "height": [_side(row.height) for row in rows],
        "sha256": [row.sha256 for row in rows],
        "caption_tokens": [row.caption_tokens for row in rows],
        "caption_truncated": [None if (n := row.caption_tokens) is None else n > context_length for row in rows],
        "error": [row.error for row in rows],
        "half_pair": [row.half_pair for row in rows],
        "notes": [row.notes for row in rows],
    }
    return pa.record_batch([pa.array(values[field.name], field.type) for field in fields], schema=pa.schema(fields))


def with_values(samples: pa.RecordBatch, name: str, values: dict[int, Any]) -> pa.RecordBatch:
    """The same samples with other values in a column. values: by position in the batch."""
    if not values:
        return samples
    column = samples.column(name).to_pylist()
    for position, value in values.items():
        column[position] = value
    index = samples.schema.get_field_index(name)
    field = samples.schema.field(index)
    return samples.set_column(index, field, pa.array(column, field.type))


def _side(pixels: int | None) -> int | None:
    """None for a width or height that the column cannot hold: a broken image's header may claim anything."""
    return pixels if pixels is not None and 0 <= pixels < 2**31 else None
