"""A checkpoint as a trainer saved it -> the state dict of the CLIP in it.

Trainers put the state dict under a key of their own (`model`, `state_dict`, …) and prefixes before its names
(`module.`, `_orig_mod.`, the name of an attribute). Both are recognised by the token embedding, which every CLIP has.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from .errors import ModelError

# keys of trainers; where a file has several, the first here that holds a CLIP is read
_WRAPPERS = (
    *("state_dict", "model_state_dict", "model", "module", "net", "network", "clip", "weights"),
    *("state_dict_ema", "model_ema", "ema_state_dict", "ema"),
)
_DEEPEST = 4  # wrappers inside one another
# the token embedding's name in each layout, the longer names first
_ANCHORS = (
    "text_model.embeddings.token_embedding.weight",
    "text.token_embedding.weight",
    "token_embedding.weight",
)
_ADDED = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}  # parts of names, anywhere


def tensors_of(loaded: Any) -> dict[str, Tensor]:
    """The tensors of the innermost state dict. ModelError where there is no mapping."""
    if not isinstance(loaded, dict):
        raise ModelError(f"holds a {type(loaded).__name__}, not a state dict")
    for _ in range(_DEEPEST):
        inner = None if _has_anchor(loaded) else _inner(loaded)
        if inner is None:
            break
        loaded = inner
    return {str(key): value for key, value in dict.items(loaded) if isinstance(value, Tensor)}


def _inner(loaded: dict[Any, Any]) -> dict[Any, Any] | None:
    """The mapping inside that holds a CLIP, or else the first that has a wrapper's name."""
    inside = {key: value for key, value in dict.items(loaded) if isinstance(value, dict)}
    named = [inside[name] for name in _WRAPPERS if name in inside]
    others = [value for key, value in inside.items() if key not in _WRAPPERS]
    with_clip = (value for value in (*named, *others) if _holds_clip(value, _DEEPEST - 1))
    return next(with_clip, named[0] if named else None)


def _holds_clip(values: dict[Any, Any], depth: int) -> bool:
    if _has_anchor(values):
        return True
    inside = (value for value in dict.values(values) if isinstance(value, dict))
    return depth > 0 and any(_holds_clip(value, depth - 1) for value in inside)


def _has_anchor(values: dict[Any, Any]) -> bool:
    return any(isinstance(key, str) and key.endswith(_ANCHORS[-1]) for key in values)


def without_prefixes(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names as the model itself has them; tensors beside the model (of a loss, a head, a metric) are left out.

    ModelError where the tensors are those of several models.
    """
    named = {_without_added(key): value for key, value in tensors.items()}
    prefixes = sorted({prefix for key in named if (prefix := _prefix(key)) is not None})
    if len(prefixes) > 1:
        listed = " and ".join(prefix or "no prefix" for prefix in prefixes)
        raise ModelError(f"holds {len(prefixes)} CLIP models ({listed}): save the state dict of one of them")
    if not prefixes or not prefixes[0]:
        return named
    prefix = prefixes[0]
    inside = {key.removeprefix(prefix): value for key, value in named.items() if key.startswith(prefix)}
    if "logit_scale" in named:  # of a class that keeps the temperature beside the model
        inside.setdefault("logit_scale", named["logit_scale"])
    return inside


def _without_added(key: str) -> str:
    return ".".join(part for part in key.split(".") if part not in _ADDED)


def _prefix(key: str) -> str | None:
    """What stands before the token embedding's name; None for another tensor's name."""
    for anchor in _ANCHORS:
        if key == anchor or key.endswith(f".{anchor}"):
            return key.removesuffix(anchor)
    return None
