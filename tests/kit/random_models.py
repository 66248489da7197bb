"""Weights that make a comparison mean something: every tensor counts, and outputs are of ordinary size."""

from __future__ import annotations

import torch
from clipmill.clipmodel.config import CLIPConfig
from clipmill.clipmodel.model import CLIP
from torch import Tensor, nn


@torch.no_grad()
def randomize(model: nn.Module, seed: int = 0) -> None:
    """Parameters and buffers of a CLIP state dict, under the reference's names, at random; none is left at 0 or 1."""
    generator = torch.Generator().manual_seed(seed)
    for key, tensor in model.state_dict(keep_vars=True).items():
        normal = _normal(tensor, generator)
        if key.endswith("num_batches_tracked"):
            continue
        if key == "logit_scale":
            tensor.fill_(3.0)
        elif key.endswith("running_var"):
            tensor.copy_(1 + 0.3 * normal.tanh())
        elif key.endswith("bn3.weight"):
            tensor.copy_(0.15 + 0.1 * normal)  # zero in a fresh model, which would cut every block out
        elif tensor.dim() == 1 and key.endswith("weight"):
            tensor.copy_(1 + 0.2 * normal)
        elif tensor.dim() == 4:
            tensor.copy_(normal * (1.5 / tensor[0].numel()) ** 0.5)
        elif key.endswith(("text_projection", "proj")):
            tensor.copy_(normal * tensor.shape[0] ** -0.5)
        elif "position" in key or "token_embedding" in key or "class_embedding" in key:
            tensor.copy_(0.5 * normal)
        elif tensor.dim() == 2:
            # sharp enough for attention to choose; branches that grow the residual stream stay small
            shrinks = "out_proj" in key or "fc2" in key or ("c_proj" in key and "attnpool" not in key)
            gain = 0.3 if shrinks else 2.0 if any(name in key for name in ("in_proj", "q_proj", "k_proj")) else 1.0
            tensor.copy_(normal * gain * tensor.shape[1] ** -0.5)
        else:
            tensor.copy_(0.1 * normal)


def _normal(tensor: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(tensor.shape, generator=generator)


def random_clip(config: CLIPConfig, seed: int = 0) -> CLIP:
    with torch.device("meta"):
        model = CLIP(config)
    model = model.to_empty(device="cpu").eval().requires_grad_(False)
    for key, tensor in model.state_dict().items():
        if key.endswith("num_batches_tracked"):
            tensor.fill_(7)
    randomize(model, seed)
    return model


def images(config: CLIPConfig, count: int = 2, seed: int = 1) -> Tensor:
    """Normalised pixels of coarse random patterns under noise: unlike one another even after average pooling."""
    generator = torch.Generator().manual_seed(seed)
    size = config.vision.image_size
    coarse = torch.randn(count, 3, 4, 4, generator=generator) + torch.randn(count, 3, 1, 1, generator=generator)
    return nn.functional.interpolate(coarse, size=size) + 0.5 * torch.randn(count, 3, size, size, generator=generator)


def captions(config: CLIPConfig, lengths: tuple[int, ...] = (5, 16, 40), seed: int = 2) -> Tensor:
    """Token ids as the tokenizer pads them: [SOS], words, [EOS], zeros."""
    text = config.text
    generator = torch.Generator().manual_seed(seed)
    rows = torch.zeros(len(lengths), text.context_length, dtype=torch.long)
    for row, length in zip(rows, lengths, strict=True):
        length = min(length, text.context_length - 2)
        row[0], row[length + 1] = text.vocab_size - 2, text.vocab_size - 1
        row[1 : length + 1] = torch.randint(1, text.vocab_size - 2, (length,), generator=generator)
    return rows
