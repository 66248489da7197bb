"""Jobs and results as people see them in Python: what was asked for, without defaults; what came of it, as a table."""

from __future__ import annotations

import html
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields
from typing import Any, get_type_hints

from ..redaction import redacted

_DEEPEST = 2  # mappings within mappings that a table shows
_MOST = 12  # entries of one mapping, or of one list


class _Signature:
    """A dataclass's signature, its types without what is only for the command line."""

    def __get__(self, _: Any, owner: type[Any]) -> inspect.Signature:
        hints = get_type_hints(owner)
        parameters = []
        for field in fields(owner):
            default = field.default if field.default_factory is MISSING else field.default_factory()
            parameters.append(
                inspect.Parameter(
                    field.name,
                    inspect.Parameter.POSITIONAL_OR_KEYWORD,
                    default=inspect.Parameter.empty if default is MISSING else default,
                    annotation=hints[field.name],
                )
            )
        return inspect.Signature(parameters)


class Readable:
    """For frozen dataclasses with `repr=False`. Values that look like secrets are not shown."""

    __signature__ = _Signature()

    def __repr__(self) -> str:
        shown = []
        for field in fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            default = field.default if field.default_factory is MISSING else field.default_factory()
            if value != default:
                shown.append(f"{field.name}={redacted(value)!r}")
        return f"{type(self).__name__}({', '.join(shown)})"


class Result:
    """For what has `as_json`: a table in notebooks."""

    def _repr_html_(self) -> str:
        return table_html(type(self).__name__, self.as_json())  # type: ignore[attr-defined]


def table_html(caption: str, values: Mapping[str, Any]) -> str:
    """Values by name, as a table of HTML; empty ones are left out."""
    cells = "".join(
        f"<tr><th style='text-align:left'>{html.escape(name)}</th><td style='text-align:left'>{html.escape(value)}"
        "</td></tr>"
        for name, value in _rows(values)
    )
    return f"<table><caption>{caption}</caption>{cells}</table>"


def _rows(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    depth = before.count(".") + 1
    for number, (key, value) in enumerate(values.items()):
        name = f"{before}{str(key).replace('_', ' ')}"
        if number == _MOST * 4:
            yield f"{before}…", f"{len(values) - number:,} more"
            return
        if isinstance(value, Mapping) and value and depth <= _DEEPEST:
            yield from _rows(value, f"{name}.")
        elif value not in (None, {}, [], ()):
            yield name, _text(value)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, list | tuple):
        more = f", … ({len(value):,})" if len(value) > _MOST else ""
        return ", ".join(str(item) for item in value[:_MOST]) + more
    return str(value)
