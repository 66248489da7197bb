"""Models as a run names them: `ALIAS=NAME=WEIGHTS`, each part but the name left out where it may be."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ...clipmodel.config import VARIANTS
from ..errors import UserError

_ALIAS = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True)
class NamedModel:
    alias: str  # the prefix of its columns; empty for the only model of a run
    spec: str  # as `clipmodel.load` takes it


def named_models(specs: Sequence[str]) -> tuple[NamedModel, ...]:
    """From `[ALIAS=]NAME[=WEIGHTS]`. UserError where several models do not all have an alias of their own."""
    named = tuple(_named(spec) for spec in specs)
    aliases = [model.alias for model in named]
    if not named:
        raise UserError("--model: name at least one")
    if len(named) > 1 and not all(aliases):
        raise UserError(
            f"--model {named[aliases.index('')].spec}: several models need an alias each, as in b32=ViT-B-32"
        )
    if len(set(aliases)) < len(aliases):
        raise UserError(f"--model: the alias {max(aliases, key=aliases.count)} is given twice")
    return named


def _named(spec: str) -> NamedModel:
    alias, equals, rest = spec.partition("=")
    if equals and rest and alias not in VARIANTS and _ALIAS.fullmatch(alias):
        return NamedModel(alias, rest)
    return NamedModel("", spec)
