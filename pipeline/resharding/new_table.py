"""The table beside a new shard, as img2dataset writes it: `00000.parquet` beside `00000.tar`."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from ..inputs.grouping import WholeGroup

# What img2dataset's tables have, in its order; a dataset's column of the same name counts.
_FIELDS = (
    pa.field("url", pa.string()),
    pa.field("caption", pa.string()),
    pa.field("key", pa.string()),
    pa.field("status", pa.string()),
    pa.field("error_message", pa.string()),
    pa.field("width", pa.int32()),
    pa.field("height", pa.int32()),
    pa.field("original_width", pa.int32()),
    pa.field("original_height", pa.int32()),
    pa.field("exif", pa.string()),
    pa.field("sha256", pa.string()),
)
_SOURCE = {"key": "source_key", "shard": "source_shard", "row": "source_row"}
_GONE = ("image_offset", "image_size", "error")  # which say nothing of the new shard


class NewTable:
    """Rows as they come: `begin` with what the dataset says of some, then `add` each of them."""

    def __init__(self) -> None:
        self._said: list[pa.Table] = []
        self._own: list[dict[str, Any]] = []

    def __len__(self) -> int:
        return len(self._own)

    def begin(self, said: pa.Table) -> None:
        shard = said.schema.get_field_index("shard")
        self._said.append(said.set_column(shard, "shard", said["shard"].cast(pa.string())))

    def add(self, key: str, group: WholeGroup) -> None:
        """key: the new one. group: the sample, whose json knows more than the dataset."""
        sides = {name: _side(group.metadata.get(name)) for name in ("original_width", "original_height")}
        exif = group.metadata.get("exif")
        self._own.append({"key": key, "status": "success", **sides, "exif": exif if isinstance(exif, str) else None})

    def finished(self) -> pa.Table:
        said = pa.concat_tables(self._said)
        columns: dict[str, Any] = {}
        for field in _FIELDS:
            if field.name in said.schema.names and field.name != "key":
                columns[field.name] = said[field.name]
            else:
                columns[field.name] = pa.array([row.get(field.name) for row in self._own], field.type)
        rest = [name for name in said.schema.names if name not in (*_SOURCE, *_GONE, *columns)]
        columns |= {name: said[name] for name in rest}
        return pa.table({**columns, **{new: said[name] for name, new in _SOURCE.items()}})


def _side(value: Any) -> int | None:
    """json may hold anything."""
    return value if type(value) is int and 0 <= value < 2**31 else None
