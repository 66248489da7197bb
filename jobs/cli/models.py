"""`clipmill models`"""

from __future__ import annotations

import json
from typing import Annotated

import typer

from .options import Debug, Json


def models(
    name: Annotated[str | None, typer.Argument(help="Show the releases of this variant.")] = None,
    json_: Json = False,
    debug: Debug = False,
) -> None:
    """List the model variants, and where the weights of each come from."""
    from ...clipmodel.config import VARIANTS, variant
    from ..showing.show import show_models, show_releases

    if name is not None:
        variant(name)
        show_releases(name, json_)
    elif json_:
        print(json.dumps(list(VARIANTS)))
    else:
        show_models()
