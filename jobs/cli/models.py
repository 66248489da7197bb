"""`clipmill models`"""

from __future__ import annotations

import json
from typing import Annotated

import typer

from ..showing.console import out
from .options import Json


def models(
    name: Annotated[str | None, typer.Argument(help="Show the releases of this variant.")] = None,
    json_: Json = False,
) -> None:
    """List the model variants, and where the weights of each come from."""
    from ...clipmodel.config import VARIANTS, variant

    if name is not None:
        variant(name)
        _show_releases(name, json_)
    elif json_:
        print(json.dumps(list(VARIANTS)))
    else:
        _show_variants()


def _show_variants() -> None:
    """One line a variant, however long: who greps these lines wants whole names."""
    from ...clipmodel.config import VARIANTS
    from ...clipmodel.sources import releases

    row = "{:<23} {:<7} {:<20} {:<10} {}".format
    out.print(row("variant", "image", "encoder", "embedding", "weights"))
    for name, config in VARIANTS.items():
        vision = config.vision
        kind = f"ResNet, width {vision.width}" if vision.is_resnet else f"ViT/{vision.patch_size}, width {vision.width}"
        tags = ", ".join(releases(name)) or "-"
        out.print(row(name, f"{vision.image_size} px", kind, config.embed_dim, tags))
    out.print("\nUse NAME for the first of its weights, NAME=WEIGHTS for another, NAME=random for none, or NAME=FILE.")


def _show_releases(name: str, as_json: bool) -> None:
    from ...clipmodel.sources import releases

    sources = {}
    for tag, release in releases(name).items():
        origin = f"https://huggingface.co/{release.repo}" if release.repo else release.file or "shipped with clipmill"
        sources[tag] = {"from": origin, "sha256": release.sha256, "activation": release.activation}
    if as_json:
        print(json.dumps(sources))
        return
    if not sources:
        out.print(f"{name}: no published weights are known; use {name}=FILE or {name}=random")
    for tag, source in sources.items():
        out.print(f"{name}={tag:<28} {source['from']}")
