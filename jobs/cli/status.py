"""`clipmill status`"""

from __future__ import annotations

import json
from typing import Annotated

import typer

from .options import Debug, Json, StorageOptions, storage_options


def status(
    out: Annotated[str, typer.Argument(help="The folder that `clipmill embed` writes to.")],
    watch: Annotated[
        bool, typer.Option("--watch", help="Look again and again until it is complete, wherever it is being made.")
    ] = False,
    every: Annotated[float, typer.Option(metavar="SECONDS", help="Between two looks.", min=0.1)] = 5.0,
    storage_option: StorageOptions = None,
    json_: Json = False,
    debug: Debug = False,
) -> None:
    """How far a dataset is: shards planned, committed, failed and left; samples; the bottleneck."""
    from ...pipeline.dataset.output import Output
    from ...pipeline.dataset.summary import Watch
    from ...pipeline.errors import InputError
    from ..showing.show import show_status
    from ..showing.watching import follow

    looks = Watch(Output.at(out, storage_options(storage_option)))
    found = looks.look()
    if found is None:
        raise InputError(f"{out}: no dataset of clipmill's here; name the folder given to `clipmill embed --out`")
    if watch:
        found = follow(looks, found, every, json_)
    elif json_:
        print(json.dumps(found.as_json()))
    if not json_:
        show_status(found)
