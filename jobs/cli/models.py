"""`clipmill models`"""

from __future__ import annotations

import json
import textwrap
from dataclasses import asdict
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
    from ...clipmodel.published import Variant

    if name is not None:
        variant(name)
        _show_releases(name, json_)
    elif json_:
        print(json.dumps([Variant.of(name).as_json() for name in VARIANTS]))
    else:
        _show_variants()


def _show_variants() -> None:
    """On a terminal in its width; elsewhere one line a variant, for whoever greps."""
    from ...clipmodel.config import VARIANTS
    from ...clipmodel.published import Variant

    row = "{:<28} {:<6} {:>4} {:>6} {:>8}  ".format
    out.print(row("variant", "image", "dim", "tokens", "PFLOP/1M") + "weights")
    for one in map(Variant.of, VARIANTS):
        sizes = one.embedding, one.context_length, f"{one.petaflop:,.1f}"
        _print_wrapped(row(one.name, f"{one.image_size} px", *sizes), ", ".join(one.weights) or "-")
    out.print("\nPFLOP/1M: computation for a million pairs. docs/models.md says which to take.")
    out.print("Use NAME for the first of its weights, NAME=WEIGHTS for another, NAME=random")
    out.print("for none, or NAME=FILE. `clipmill models NAME` shows where they come from.")
    out.print("hf:REPO or hf:FOLDER is any other model of transformers (clipmill[hf]),")
    out.print("open_clip:NAME=WEIGHTS one of open_clip (clipmill[open_clip]).")


def _show_releases(name: str, as_json: bool) -> None:
    from ...clipmodel.config import variant
    from ...clipmodel.published import Variant
    from ...clipmodel.sources import releases

    sources, published = {}, Variant.of(name).weights
    for tag, release in releases(name).items():
        origin = f"https://huggingface.co/{release.repo}" if release.repo else release.file or "shipped with clipmill"
        sources[tag] = {"from": origin, "sha256": release.sha256, "activation": release.activation}
        sources[tag] |= asdict(published[tag])
    if as_json:
        print(json.dumps(sources))
        return
    config = variant(name)
    vision = config.vision
    kind = f"ResNet of width {vision.width}" if vision.is_resnet else f"ViT/{vision.patch_size} of width {vision.width}"
    out.print(f"{name}: {kind}, images of {vision.image_size} px, embeddings of {config.embed_dim:,} numbers")
    if not sources:
        out.print(f"no published weights are known; use {name}=FILE or {name}=random")
    for tag, source in sources.items():
        accuracy = f", {source['accuracy']}% on ImageNet ({source['accuracy_source']})" if source["accuracy"] else ""
        _print_wrapped(f"{name}={tag}  ", f"{source['from']}{accuracy}", "  ")


def _print_wrapped(left: str, text: str, indent: str | None = None) -> None:
    """`left` and `text` in one line, or on a terminal too narrow for it with `text` in lines below each other: after
    `indent`, else under its beginning. Names are never cut."""
    if not out.is_terminal or len(left + text) <= out.width:
        out.print(left + text)
        return
    lines = textwrap.wrap(
        text,
        out.width,
        initial_indent=left if indent is None else f"{left.rstrip()}\n{indent}",
        subsequent_indent=" " * len(left) if indent is None else indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    out.print("\n".join(lines))
