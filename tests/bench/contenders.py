"""One model as each implementation has it, with the same weights: ours, the reference's, transformers'."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parent.parent / "kit"))  # for the oracles, which the tests share

import hugging_face
import reference
import siglip_kit
from clipmill.clipmodel.config import CLIPConfig
from clipmill.clipmodel.convert import canonical
from clipmill.clipmodel.flops import Flops
from clipmill.clipmodel.model import CLIP
from clipmill.clipmodel.preprocess import normalise
from clipmill.pipeline.embedding.encoder import ClipEncoder, Precision, backend_for
from clipmill.pipeline.records import Pixels, TokenIds
from random_models import random_clip

Encode = Callable[[Sequence[Pixels], Sequence[TokenIds]], tuple[Tensor, Tensor]]  # as pipeline.encode.Encoder does


Towers = tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]  # pixels, tokens -> features


@dataclass(frozen=True)
class Contenders:
    """By name; each makes float32 unit vectors [images, dim] and [texts, dim] of uint8 images and token ids."""

    config: CLIPConfig
    encode: dict[str, Encode]


@dataclass(frozen=True)
class Where:
    """What models run on. Below float32 all of them use torch's autocast."""

    device: str = "cpu"
    precision: Precision = "fp32"

    def autocast(self) -> AbstractContextManager[object]:
        return torch.autocast(self.device, torch.bfloat16) if self.precision == "bf16" else nullcontext()


@torch.inference_mode()
def contenders(config: CLIPConfig, batch_size: int, where: Where = Where()) -> Contenders:
    """`ours`, `reference` for CLIP, and, for ViTs, `transformers`; all without gradients and on torch's threads."""
    siglip, others = config.vision.pooling == "attention", dict[str, Towers]()
    if config.vision.is_resnet:
        model = random_clip(config)
    else:
        theirs = siglip_kit.model(config) if siglip else hugging_face.model(config)
        with torch.device("meta"):
            model = CLIP(config).eval().requires_grad_(False)
        model.load_state_dict(canonical(theirs.state_dict()), assign=True)
        others["transformers"] = _transformers(theirs.to(where.device))
    model.to(where.device)
    if not siglip:
        published = reference.model(config, model.state_dict())
        for block in published.transformer.resblocks:
            block.attn_mask = block.attn_mask.to(where.device)
        others = {"reference": (published.encode_image, published.encode_text), **others}
    backend = backend_for(config, where.device)
    encoder = ClipEncoder(model, where.device, where.precision, batch_size, compile_with=backend)
    encode: dict[str, Encode] = {"ours": lambda images, texts: _tensors(encoder.encode(images, texts))}
    for name, (image, text) in others.items():
        encode[name] = _padded(config, image, text, batch_size, where)
    return Contenders(config, encode)


def _transformers(theirs: Any) -> Towers:
    """Its projections come after its towers in a CLIP; in a SigLIP they are part of them."""
    of_image, of_text = (getattr(theirs, name, nn.Identity()) for name in ("visual_projection", "text_projection"))
    return (
        lambda pixels: of_image(theirs.vision_model(pixel_values=pixels).pooler_output),
        lambda tokens: of_text(theirs.text_model(input_ids=tokens).pooler_output),
    )


def _tensors(vectors: tuple[object, object]) -> tuple[Tensor, Tensor]:
    return torch.as_tensor(vectors[0]), torch.as_tensor(vectors[1])


def _padded(
    config: CLIPConfig, image: Callable[[Tensor], Tensor], text: Callable[[Tensor], Tensor], size: int, where: Where
) -> Encode:
    """How these are used: batches as they come, captions padded to the context's length."""

    @torch.inference_mode()
    def encode(images: Sequence[Pixels], texts: Sequence[TokenIds]) -> tuple[Tensor, Tensor]:
        found: tuple[list[Tensor], list[Tensor]] = [], []
        with where.autocast():
            for start in range(0, len(images), size):
                batch = torch.stack([torch.from_numpy(each) for each in images[start : start + size]])
                pixels = normalise(batch.to(where.device), config.preprocess)
                found[0].append(F.normalize(image(pixels).float(), dim=-1).cpu())
            for start in range(0, len(texts), size):
                rows = texts[start : start + size]
                tokens = torch.zeros(len(rows), config.text.context_length, dtype=torch.long)
                for row, ids in zip(tokens, rows, strict=True):
                    row[: len(ids)] = torch.from_numpy(ids)
                found[1].append(F.normalize(text(tokens.to(where.device)).float(), dim=-1).cpu())
        empty = torch.empty(0, config.embed_dim)
        return torch.cat([empty, *found[0]]), torch.cat([empty, *found[1]])

    return encode


def shallow(config: CLIPConfig) -> CLIPConfig:
    """The same with one layer a tower, for when it only has to run."""
    layers = (1, 1, 1, 1) if config.vision.is_resnet else 1
    return replace(config, vision=replace(config.vision, layers=layers), text=replace(config.text, layers=1))


@cache
def image_gflop(config: CLIPConfig) -> float:
    """Of one image: what the reference's operations come to, a multiplication and an addition counted as two."""
    if config.vision.pooling == "attention":  # the reference has no such tower
        return Flops.of(config).image / 1e9
    size = config.vision.image_size
    return _gflop(reference.skeleton(config).eval().encode_image, torch.empty(1, 3, size, size, device="meta"))


@cache
def text_gflop(config: CLIPConfig, tokens: int) -> float:
    """Of one caption of that many tokens, counted alike: matrices grow with it, attention with its square."""
    if config.text.pooling == "last":
        return Flops.of(config).total(0, [tokens]) / 1e9
    cut = replace(config, text=replace(config.text, context_length=tokens))
    model = reference.skeleton(cut).eval()
    with torch.device("meta"):
        return _gflop(model.encode_text, torch.zeros(1, tokens, dtype=torch.long))


@torch.inference_mode()
def _gflop(call: Callable[[Tensor], Tensor], inputs: Tensor) -> float:
    with FlopCounterMode(display=False) as counter:
        call(inputs)
    return counter.get_total_flops() / 1e9
