"""`clipmill demo`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demo(
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for the shards and the dataset; made, or used again.")
    ] = Path("clipmill-demo"),
    pairs: Annotated[int, typer.Option(help="How many pairs to draw.", min=200)] = 2000,
) -> None:
    """Draw image-text shards, embed them, label, search and filter them: everything offline, with the `tiny` model."""
    from ..demo import run_demo

    run_demo(out, pairs)
