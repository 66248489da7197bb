"""Which columns a part has: those that clipmill fills, and those copied from the samples' json."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import pyarrow as pa

from ..errors import PlanMismatchError, UserError
from ..records import Decoded

ColumnType = Literal["string", "int64", "float64", "bool"]

FIRST = [pa.field("key", pa.string(), nullable=False)]  # before the copied columns
AFTER = [  # after them, and before the models' columns and the error
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
LAST = [pa.field("error", pa.string())]
OWN_COLUMNS = frozenset(field.name for field in FIRST + AFTER + LAST) | {
    "image_embedding", "text_embedding", "similarity",
}  # fmt: skip

_TYPES = {"string": pa.string(), "int64": pa.int64(), "float64": pa.float64(), "bool": pa.bool_()}


@dataclass(frozen=True)
class Column:
    """A column copied from the samples' json (or from the text file, for `caption`)."""

    name: str
    type: ColumnType = "string"

    @classmethod
    def parse(cls, text: str) -> Column:
        """`NAME` or `NAME:TYPE`. UserError for an unknown type, and for the name of a column that every part has."""
        name, colon, kind = text.partition(":")
        if colon and kind not in get_args(ColumnType):
            raise UserError(f"column {text!r}: the type must be one of {', '.join(get_args(ColumnType))}")
        if not name:
            raise UserError(f"column {text!r}: the name is missing; write NAME or NAME:TYPE")
        if not name.isprintable():  # half a surrogate pair among others, which Parquet cannot hold
            raise UserError(f"column {text!r}: the name has characters that cannot be shown; choose another")
        if name in OWN_COLUMNS:
            raise UserError(f"column {text!r}: every part has a column {name} already; leave it out")
        return cls(name, kind or "string")  # type: ignore[arg-type]  # checked above

    def __str__(self) -> str:
        return f"{self.name}:{self.type}"

    @property
    def field(self) -> pa.Field:
        return pa.field(self.name, _TYPES[self.type])

    def value_of(self, row: Decoded) -> Any:
        """The sample's value as the column's type; None where it has none, or one that the type cannot hold."""
        return self.cast(row.caption if self.name == "caption" else row.metadata.get(self.name))

    def cast(self, value: Any) -> Any:
        """A value as the column's type; None for one that it cannot hold."""
        return None if value is None else _CASTS[self.type](value)


DEFAULT_COLUMNS = (Column("uid"), Column("url"), Column("caption"))
_LISTED = re.compile(f"([^:]+):({'|'.join(get_args(ColumnType))})(?:, |$)")  # a name has no colon, but may have commas


def columns_besides(chosen: Sequence[str], begun: Sequence[Column] = ()) -> tuple[Column, ...]:
    """The default columns and the chosen ones (`NAME[:TYPE]`). A default column may be chosen with another type.

    begun: those of a dataset that goes on, which come first, in their order, chosen or not: the parts of a dataset have
    one schema.
    """
    parsed = [Column.parse(text) for text in chosen]
    names = {column.name: column for column in parsed}
    if len(names) < len(parsed):
        raise UserError("--column: a name is given twice; give it once")
    if begun:
        there = [names.pop(column.name, column) for column in begun]
        return (*there, *names.values())
    return (*(column for column in DEFAULT_COLUMNS if column.name not in names), *parsed)


def listed(columns: Sequence[Column]) -> str:
    """As a dataset's plan has them: `uid:string, width:int64`."""
    return ", ".join(map(str, columns))


def parse_listed(text: str) -> tuple[Column, ...]:
    """What `listed` wrote."""
    return tuple(Column(name, kind) for name, kind in _LISTED.findall(text))


def check_columns(url: str, begun: Sequence[Column], now: Sequence[Column]) -> None:
    """PlanMismatchError, with the remedy, where a run would write other columns than the dataset at `url` has."""
    if tuple(begun) == tuple(now):
        return
    types = {column.name: column.type for column in begun}
    for column in now:
        if types.get(column.name, column.type) != column.type:
            raise PlanMismatchError(
                f"{url} has the column {column.name} as {types[column.name]}, not as {column.type}: leave out --column "
                f"{column}, or choose another output folder"
            )
    if added := [str(column).removesuffix(":string") for column in now if column.name not in types]:
        options = " ".join(f"--column {column}" for column in added)
        raise PlanMismatchError(
            f"{url} was begun without the column {' and '.join(added)}: leave it out here, and copy it beside the "
            f"dataset, without embedding anything again, by `clipmill columns {url} -o FOLDER {options}`; then other "
            "commands take it with --join ALIAS=FOLDER"
        )
    raise PlanMismatchError(f"{url} has the columns {listed(begun)}, not {listed(now)}: run this again")


def check_column_names(names: Iterable[str], known: Collection[str], option: str = "--column") -> None:
    """UserError for a name that is not among those of the columns that there are."""
    for name in names:
        if name not in known:
            raise UserError(f"{option} {name}: no such column; there are {', '.join(known)}")


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text.encode("utf-8", "replace").decode("utf-8")  # half a surrogate pair is not UTF-8


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


_CASTS = {"string": _text, "int64": _int, "float64": _float, "bool": _bool}
