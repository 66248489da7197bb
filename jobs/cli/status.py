"""`clipmill status`"""

from __future__ import annotations

import json
from typing import Annotated

import typer

from .options import Debug, Json, StorageOptions, storage_options


def status(
    out: Annotated[str, typer.Argument(help="The folder that `clipmill embed` writes to.")],
    storage_option: StorageOptions = None,
    json_: Json = False,
    debug: Debug = False,
) -> None:
    """How far a dataset is: shards planned, committed, failed and left; samples; the bottleneck."""
    from ...pipeline import status as look
    from ...pipeline.errors import InputError
    from ...pipeline.output import Output
    from ..show import show_status

    found = look(Output.at(out, storage_options(storage_option)))
    if found is None:
        raise InputError(f"{out}: no dataset of clipmill's here; name the folder given to `clipmill embed --out`")
    if json_:
        print(json.dumps(found.as_json()))
    else:
        show_status(found)
