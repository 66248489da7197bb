"""The architecture of a state dict, inferred from the shapes of its tensors."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .config import HALVES, VARIANTS, CLIPConfig, ImagePooling, TextConfig, VisionConfig, Vocabulary
from .errors import ModelError
from .model import CLIP

_GEMMA = 256000  # tokens
_HEAD_WIDTH = 64  # of every public model but those of the table


@dataclass(frozen=True)
class Heads:
    """Numbers of attention heads where a checkpoint states them; shapes do not show them."""

    image: int
    text: int


def is_siglip(tensors: Mapping[str, Tensor]) -> bool:
    return "visual.head.probe" in tensors


def infer(
    tensors: Mapping[str, Tensor], heads: Heads | None = None, vocabulary: Vocabulary | None = None
) -> CLIPConfig:
    """Tensors under the reference's names -> configuration. Of a CLIP, activation and preprocessing cannot be inferred
    from tensors and keep their defaults. ModelError when this is no CLIP model.

    vocabulary: where it is known; SigLIP's are told by their sizes."""
    vision = _vision(tensors, heads.image if heads else None)
    width = _shape(tensors, "ln_final.weight", 1)[0]
    siglip, vocab_size = is_siglip(tensors), _shape(tensors, "token_embedding.weight", 2)[0]
    of_siglip: Vocabulary = "gemma" if vocab_size >= _GEMMA else "siglip"
    text = TextConfig(
        width,
        0,
        _count(tensors, "transformer.resblocks."),
        vocab_size=vocab_size,
        context_length=_shape(tensors, "positional_embedding", 2)[0],
        mlp_ratio=_ratio(width, _shape(tensors, "transformer.resblocks.0.mlp.c_fc.weight", 2)[0]),
        pooling="last" if siglip else "eos",
        vocabulary=vocabulary or (of_siglip if siglip else "clip"),
    )
    text = _with_text_heads(text, heads.text if heads else None)
    config = CLIPConfig(_shape(tensors, "text_projection", 2)[1], vision, text, sigmoid="logit_bias" in tensors)
    return replace(config, activation="gelu_tanh", epsilon=1e-6, preprocess=HALVES) if siglip else config


def _ratio(width: int, mlp_width: int) -> float:
    ratio = mlp_width / width
    # lost in the division; the model rounds down
    return ratio if int(width * ratio) == mlp_width else (mlp_width + 0.5) / width


def _vision(tensors: Mapping[str, Tensor], heads: int | None) -> VisionConfig:
    if "visual.attnpool.positional_embedding" in tensors:
        width = _shape(tensors, "visual.layer1.0.conv1.weight", 4)[0]
        stages = [_count(tensors, f"visual.layer{stage}.") for stage in (1, 2, 3, 4)]
        size = 32 * _grid(tensors, "visual.attnpool.positional_embedding")
        config = VisionConfig(size, width, (stages[0], stages[1], stages[2], stages[3]))
    else:
        width, _, patch, _ = _shape(tensors, "visual.conv1.weight", 4)
        ratio = _ratio(width, _shape(tensors, "visual.transformer.resblocks.0.mlp.c_fc.weight", 2)[0])
        layers = _count(tensors, "visual.transformer.resblocks.")
        pooling: ImagePooling = "attention" if is_siglip(tensors) else "class"
        size = patch * _grid(tensors, "visual.positional_embedding", pooling == "class")
        config = VisionConfig(size, width, layers, patch, mlp_ratio=ratio, pooling=pooling)
    if heads:
        if config.output_width % heads:
            raise ModelError(f"{heads} attention heads do not divide the width {config.output_width}")
        return replace(config, head_width=config.output_width // heads)
    return _with_head_width(config)


def _with_head_width(config: VisionConfig) -> VisionConfig:
    for row in VARIANTS.values():
        if not config.is_resnet and (row.vision.width, row.vision.layers) == (config.width, config.layers):
            if row.vision.mlp_width == config.mlp_width:  # the table's ratio, in fewer digits
                config = replace(config, mlp_ratio=row.vision.mlp_ratio)
            return replace(config, head_width=row.vision.head_width)
    if config.output_width % _HEAD_WIDTH:
        raise ModelError(
            f"the image encoder's attention heads cannot be inferred from its width, {config.output_width}"
        )
    return replace(config, head_width=_HEAD_WIDTH)


def _with_text_heads(config: TextConfig, heads: int | None) -> TextConfig:
    for row in VARIANTS.values():
        text = row.text
        if (text.width, text.layers, text.mlp_width) == (config.width, config.layers, config.mlp_width):
            return replace(config, mlp_ratio=text.mlp_ratio, heads=heads or text.heads)
    if heads:
        return replace(config, heads=heads)
    if config.width % _HEAD_WIDTH:
        raise ModelError(f"the text encoder's attention heads cannot be inferred from its width, {config.width}")
    return replace(config, heads=config.width // _HEAD_WIDTH)


def _shape(tensors: Mapping[str, Tensor], key: str, dims: int) -> tuple[int, ...]:
    if key not in tensors:
        raise ModelError(f"tensor {key} is missing")
    shape = tuple(tensors[key].shape)
    if len(shape) != dims or 0 in shape:
        raise ModelError(f"tensor {key} has shape {list(shape)}, not one of {dims} dimensions")
    return shape


def _grid(tensors: Mapping[str, Tensor], key: str, with_class: bool = True) -> int:
    """Side of the square grid of patches; the positional embedding has a row for each patch, and maybe one for the
    class."""
    positions = _shape(tensors, key, 2)[0]
    side = math.isqrt(max(positions - with_class, 0))
    if side < 1 or side * side != positions - with_class:
        square = "a square number plus one" if with_class else "a square number"
        raise ModelError(f"tensor {key} has {positions} positions, which is not {square}")
    return side


def _count(tensors: Mapping[str, Tensor], prefix: str) -> int:
    names = {key[len(prefix) :].split(".")[0] for key in tensors if key.startswith(prefix)}
    if not names:
        raise ModelError(f"tensors {prefix}* are missing")
    return len(names)


def same_architecture(one: CLIPConfig, other: CLIPConfig) -> bool:
    """Whether the same tensors fit both; activation, preprocessing, vocabulary and loss may differ."""
    return _sizes(one) == _sizes(other)


def _sizes(config: CLIPConfig) -> tuple[object, ...]:
    vision, text = replace(config.vision, mlp_ratio=0.0), replace(config.text, mlp_ratio=0.0, vocabulary="clip")
    grid = vision.image_size // vision.patch_size if vision.patch_size else vision.image_size
    vision = replace(vision, image_size=grid)  # patches leave over what does not make a whole one
    return config.embed_dim, vision, text, config.vision.mlp_width, config.text.mlp_width


def looks_like(config: CLIPConfig) -> str:
    """A description for messages: the first variant of this architecture, or its main sizes."""
    for name, row in VARIANTS.items():
        if same_architecture(config, row):
            return name
    vision = config.vision
    kind = f"a ResNet of {vision.layers} blocks" if vision.is_resnet else f"a ViT of {vision.layers} layers"
    return f"{kind} and width {vision.width} at {vision.image_size} pixels"


def mismatches(tensors: Mapping[str, Tensor], config: CLIPConfig) -> Iterator[str]:
    """Every difference between the tensors and the state dict of `config`'s model, each as words for a message."""
    with torch.device("meta"):
        expected = CLIP(config).state_dict()
    for key, like in expected.items():
        if key not in tensors:
            if not key.endswith("num_batches_tracked"):  # read by training only; some files leave it out
                yield f"tensor {key} is missing"
        elif tensors[key].shape != like.shape:
            yield f"tensor {key} has shape {list(tensors[key].shape)}, not {list(like.shape)}"
        elif tensors[key].is_floating_point() != like.is_floating_point():
            yield f"tensor {key} is {str(tensors[key].dtype).removeprefix('torch.')}, not floating-point"
    for key in tensors:
        if key not in expected:
            yield f"tensor {key} is not part of the model"
