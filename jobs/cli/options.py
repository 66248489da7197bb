"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from ...pipeline.errors import UserError

StorageOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--storage-option",
        metavar="KEY=VALUE",
        help="Passed to the storage client (fsspec), such as endpoint_url=http://host:9000 or anon=true. Repeatable.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout; progress stays on stderr.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show Python's traceback when something goes wrong.")]

_WORDS = {"true": True, "false": False, "null": None}


def storage_options(pairs: Sequence[str] | None) -> dict[str, Any]:
    """`KEY=VALUE` strings as a dict; true, false, null and whole numbers as what they mean. UserError without a `=`."""
    found: dict[str, Any] = {}
    for place, pair in enumerate(pairs or (), 1):
        key, equals, value = pair.partition("=")
        if not equals or not key:  # what was given may be a secret alone
            raise UserError(f"--storage-option, number {place} of {len(pairs or ())}: must be KEY=VALUE")
        found[key] = int(value) if value.isdecimal() else _WORDS.get(value, value)
    return found
