"""The public reference implementation, as an oracle: its model and tokenizer modules, each loaded alone.

Importing its package would pull in torchvision, of which nothing here is needed.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from types import ModuleType
from typing import Any

import torch
from clipmill.clipmodel.config import CLIPConfig
from torch import Tensor


@cache
def module(name: str) -> ModuleType:
    """`model` or `simple_tokenizer` of the reference's package."""
    path = metadata.distribution("clip-anytorch").locate_file(f"clip/{name}.py")
    spec = importlib.util.spec_from_file_location(f"reference_{name}", str(path))
    assert spec and spec.loader
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def tokenizer() -> Any:
    return module("simple_tokenizer").SimpleTokenizer()


def skeleton(config: CLIPConfig) -> Any:
    """The reference's model of these sizes on the meta device: names and shapes without memory."""
    vision, text = config.vision, config.text
    with torch.device("meta"):
        return module("model").CLIP(
            config.embed_dim,
            vision.image_size,
            vision.layers,
            vision.width,
            vision.patch_size or None,
            text.context_length,
            text.vocab_size,
            text.width,
            text.heads,
            text.layers,
        )


def model(config: CLIPConfig, tensors: Mapping[str, Tensor]) -> Any:
    """The reference's model with these very tensors (shared, not copied), in eval mode."""
    built = skeleton(config)
    built.load_state_dict(tensors, assign=True)
    mask = torch.full((config.text.context_length,) * 2, float("-inf")).triu_(1)
    for block in built.transformer.resblocks:
        block.attn_mask = mask  # no buffer: it stayed on the meta device
    return built.eval().requires_grad_(False)
