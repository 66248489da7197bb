"""Options that several commands share."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Annotated, Any, get_type_hints

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
    options: dict[str, Any] = {}
    for number, pair in enumerate(pairs or (), 1):
        key, equals, value = pair.partition("=")
        if not equals or not key:  # the message does not show the pair: it may be a secret alone
            raise UserError(f"--storage-option, number {number} of {len(pairs or ())}: must be KEY=VALUE")
        options[key] = int(value) if value.isdecimal() else _WORDS.get(value, value)
    return options


def folders(pairs: Sequence[str] | None, option: str) -> dict[str, str]:
    """`ALIAS=FOLDER` strings as a dict. UserError without a `=`, and for an alias that comes twice."""
    named: dict[str, str] = {}
    for pair in pairs or ():
        alias, equals, folder = pair.partition("=")
        if not equals:
            raise UserError(f"{option} {pair}: must be ALIAS=FOLDER, such as scores={pair}")
        if alias in named:
            raise UserError(f"{option} {pair}: the alias is taken by {option} {alias}={named[alias]}; choose another")
        named[alias] = folder
    return named


def with_debug(command: Callable[..., None]) -> Callable[..., None]:
    """The command with `--debug` as its last option. `main` acts on it, whatever the command is."""

    @wraps(command)
    def run(*, debug: bool = False, **arguments: Any) -> None:
        command(**arguments)

    hints = {**get_type_hints(command, include_extras=True), "debug": Debug}
    option = inspect.Parameter("debug", inspect.Parameter.KEYWORD_ONLY, default=False)
    parameters = [*inspect.signature(command).parameters.values(), option]
    typed = [parameter.replace(annotation=hints[parameter.name]) for parameter in parameters]
    run.__signature__ = inspect.Signature(typed)  # type: ignore[attr-defined]
    run.__annotations__ = hints
    return run
