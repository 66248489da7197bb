"""SigLIP's image tower under timm's names, as open_clip's checkpoints have it -> our names."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from .errors import ModelError

_TRUNK = "visual.trunk."
_NAMES = {
    "patch_embed.proj": "conv1",
    "norm": "ln_post",
    "attn_pool.proj": "head.attn.out_proj",
    "attn_pool.norm": "head.ln",
    "attn_pool.mlp.fc1": "head.mlp.c_fc",
    "attn_pool.mlp.fc2": "head.mlp.c_proj",
}
_BLOCK = re.compile(r"blocks\.(\d+)\.(norm1|norm2|attn\.qkv|attn\.proj|mlp\.fc1|mlp\.fc2)\.(weight|bias)$")
_PARTS = {
    "norm1": "ln_1.",
    "norm2": "ln_2.",
    "attn.qkv": "attn.in_proj_",
    "attn.proj": "attn.out_proj.",
    "mlp.fc1": "mlp.c_fc.",
    "mlp.fc2": "mlp.c_proj.",
}


def from_timm(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors that have no counterpart keep their names. ModelError where one of a pair is missing."""
    named: dict[str, Tensor] = {}
    for key, value in tensors.items():
        if not key.startswith(_TRUNK):
            named[key] = value
            continue
        name = key.removeprefix(_TRUNK)
        part, _, kind = name.rpartition(".")
        if match := _BLOCK.match(name):
            named[f"visual.transformer.resblocks.{match[1]}.{_PARTS[match[2]]}{match[3]}"] = value
        elif part in _NAMES:
            named[f"visual.{_NAMES[part]}.{kind}"] = value
        elif name == "pos_embed":
            named["visual.positional_embedding"] = value.flatten(0, -2)
        elif name == "attn_pool.latent":
            named["visual.head.probe"] = value
        elif part == "attn_pool.q":
            named[f"visual.head.attn.in_proj_{kind}"] = _joined(tensors, key)
        elif part != "attn_pool.kv":
            named[key] = value
    return named


def _joined(tensors: Mapping[str, Tensor], query: str) -> Tensor:
    both = query.replace(".q.", ".kv.")
    if both not in tensors:
        raise ModelError(f"tensor {both} is missing")
    return torch.cat([tensors[query], tensors[both]])
