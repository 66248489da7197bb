"""Which fields of the samples' json a part's columns are copied from."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import UserError
from .part import Column

DEFAULT_COLUMNS = (Column("uid"), Column("url"), Column("caption"))


def columns_besides(chosen: Sequence[str]) -> tuple[Column, ...]:
    """The default columns and those chosen, `NAME[:TYPE]` each; a default one may be chosen with another type."""
    parsed = [Column.parse(text) for text in chosen]
    names = {column.name for column in parsed}
    if len(names) < len(parsed):
        raise UserError("--column: a name is given twice")
    return (*(column for column in DEFAULT_COLUMNS if column.name not in names), *parsed)
