"""Fields that several jobs have in common."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Annotated, Any

from typing_extensions import Doc

from ..errors import UserError
from .flags import Flag

Address = Annotated[str, Doc("The Ray cluster: auto (RAY_ADDRESS, else this machine), local, HOST:PORT or ray://….")]
StorageOptions = Annotated[
    Mapping[str, Any],
    Doc("Passed to the storage client (fsspec), such as endpoint_url=http://host:9000 or anon=true. Repeatable."),
    Flag(("--storage-option",), metavar="KEY=VALUE"),
]
DatasetUrl = Annotated[
    str,
    Doc("The dataset: the folder or prefix given to `clipmill embed --out`."),
    Flag(argument=True, metavar="DATASET"),
]
Alias = Annotated[
    str | None, Doc("Of several models in the dataset, the one whose embeddings count."), Flag(default="the first")
]
WeightsOf = Annotated[
    str | None,
    Doc(
        "The dataset's model again, where its weights came from a file: NAME=PATH, PATH, hf:FOLDER or "
        "open_clip:NAME=PATH."
    ),
    Flag(("--model", "-m"), metavar="NAME", default="as recorded"),
]
Overwrite = Annotated[bool, Doc("Replace what this command wrote there before with other settings.")]
Within = Annotated[
    str | None,
    Doc("Only the rows of this subset, which `clipmill filter` or `clipmill dedup` wrote."),
    Flag(metavar="SUBSET", default="all rows"),
]
Joins = Annotated[
    Mapping[str, str],
    Doc(
        "A side table: a folder of Parquet files with the names of the dataset's parts and their rows, such as labels, "
        "scores, or another dataset over the same shards. SQL has its columns as ALIAS.COLUMN. Repeatable."
    ),
    Flag(("--join",), metavar="ALIAS=FOLDER"),
]

_ALIAS = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TAKEN = {
    "pairs": "that is what SQL calls the dataset's rows",
    "_place": "that is what the page of `serve` calls a row's position",
}


def check_joins(joins: Mapping[str, str], columns: Collection[str] = (), labels: str | None = None) -> None:
    """UserError for an alias that SQL could not name: that is no identifier, or is another one's or a column's name,
    in whatever case. labels: what the job names as its labels."""
    taken = {name.casefold(): f"the dataset has a column {name}" for name in columns}
    taken |= _TAKEN
    if labels is not None:
        taken["labels"] = f"SQL calls what --labels {labels} holds so"
    for alias, folder in joins.items():
        option = f"--join {alias}={folder}"
        if not _ALIAS.fullmatch(alias):
            raise UserError(
                f"{option}: {alias!r} cannot be an alias; take letters, digits and _, such as scores=FOLDER"
            )
        if not folder:
            raise UserError(f"{option}: names no folder; write ALIAS=FOLDER")
        if alias.casefold() in taken:
            raise UserError(f"{option}: the alias is taken: {taken[alias.casefold()]}; choose another one")
        taken[alias.casefold()] = f"--join {alias}={folder} has it, too"


def check_named(joins: Mapping[str, str], columns: Collection[str], labels: str | None = None) -> None:
    """As `check_joins`, for a step that uses side tables' columns by their names alone: UserError for a table of which
    none is named."""
    check_joins(joins, labels=labels)
    for alias, folder in joins.items():
        if not any(name.startswith(f"{alias}.") for name in columns):
            raise UserError(
                f"--join {alias}={folder}: none of its columns is named; add --column {alias}.NAME, or leave it out"
            )
