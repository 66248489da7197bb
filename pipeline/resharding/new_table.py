"""The table beside a new shard, as img2dataset writes it: `00000.parquet` beside `00000.tar`."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from ..inputs.grouping import SampleFiles

# The columns of img2dataset's tables, in its order; filled from the dataset's column of that name where there is one.
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
_GONE = ("image_offset", "image_size", "error")  # which do not apply to the new shard


class NewTable:
    """Rows in order: `begin` with the dataset's rows of some samples, then `add` each of these samples."""

    def __init__(self) -> None:
        self._rows: list[pa.Table] = []
        self._own: list[dict[str, Any]] = []

    def __len__(self) -> int:
        return len(self._own)

    def begin(self, rows: pa.Table) -> None:
        shard = rows.schema.get_field_index("shard")
        self._rows.append(rows.set_column(shard, "shard", rows["shard"].cast(pa.string())))

    def add(self, key: str, group: SampleFiles) -> None:
        """key: in the new shard. group: the sample; its json has fields that the dataset lacks."""
        sides = {name: _side(group.metadata.get(name)) for name in ("original_width", "original_height")}
        exif = group.metadata.get("exif")
        self._own.append({"key": key, "status": "success", **sides, "exif": exif if isinstance(exif, str) else None})

    def finished(self) -> pa.Table:
        rows = pa.concat_tables(self._rows)
        columns: dict[str, Any] = {}
        for field in _FIELDS:
            if field.name in rows.schema.names and field.name != "key":
                columns[field.name] = rows[field.name]
            else:
                columns[field.name] = pa.array([row.get(field.name) for row in self._own], field.type)
        rest = [name for name in rows.schema.names if name not in (*_SOURCE, *_GONE, *columns)]
        columns |= {name: rows[name] for name in rest}
        return pa.table({**columns, **{new: rows[name] for name, new in _SOURCE.items()}})


def _side(value: Any) -> int | None:
    """A width or height of the json, None where it is no such number."""
    return value if type(value) is int and 0 <= value < 2**31 else None
