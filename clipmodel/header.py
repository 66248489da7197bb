"""Our own metadata in a safetensors file: the whole configuration, as JSON under one key of its header."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import get_args

from .config import (
    Activation,
    CLIPConfig,
    ImagePooling,
    Interpolation,
    PreprocessConfig,
    Resize,
    Steps,
    TextConfig,
    TextPooling,
    VisionConfig,
    Vocabulary,
)
from .errors import ModelError, one_line

HEADER = "clipmill"  # the key


def write_header(config: CLIPConfig, variant: str | None, metadata: Mapping[str, str]) -> str:
    return json.dumps({"variant": variant, "config": asdict(config), "metadata": dict(metadata)})


def read_header(header: str) -> tuple[CLIPConfig, str | None]:
    """(configuration, variant's name) from our own metadata. ModelError where it is not understood."""
    try:
        values = json.loads(header)
        config = values["config"]
        vision, preprocess = config["vision"], config["preprocess"]
        layers = vision["layers"] if isinstance(vision["layers"], int) else tuple(vision["layers"])
        preprocess |= {key: tuple(preprocess[key]) for key in ("mean", "std")}
        nested = {
            "vision": VisionConfig(**{**vision, "layers": layers}),
            "text": TextConfig(**config["text"]),
            "preprocess": PreprocessConfig(**preprocess),
        }
        restored = CLIPConfig(**{**config, **nested})
        _check_sizes(restored)
        return restored, values.get("variant")
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else one_line(error)[:200]
        raise ModelError(f"its clipmill header is not understood ({reason}); made by a newer clipmill?") from error


def _check_sizes(config: CLIPConfig) -> None:
    vision, text = config.vision, config.text
    stages = vision.layers if isinstance(vision.layers, tuple) else (vision.layers, vision.patch_size)
    sizes = (config.embed_dim, vision.image_size, vision.width, vision.head_width, vision.heads, *stages)
    sizes += (text.width, text.heads, text.layers, text.vocab_size, text.context_length)
    if not all(isinstance(size, int) and size > 0 for size in sizes) or text.width % text.heads:
        raise ValueError("impossible sizes")
    preprocess = config.preprocess
    if config.activation not in get_args(Activation) or preprocess.resize not in get_args(Resize):
        raise ValueError("unknown activation or resize")
    if preprocess.interpolation not in get_args(Interpolation) or text.vocabulary not in get_args(Vocabulary):
        raise ValueError("unknown interpolation or vocabulary")
    if vision.pooling not in get_args(ImagePooling) or text.pooling not in get_args(TextPooling):
        raise ValueError("unknown pooling")
    if preprocess.steps not in get_args(Steps) or not isinstance(preprocess.resize_to or 1, int):
        raise ValueError("unknown steps of preprocessing")
