"""The objectives, on one device or many: the symmetric contrastive one (paper, section 2.3 and figure 3), and the
pairwise sigmoid of SigLIP (arXiv 2303.15343, section 3.2)."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from .config import PreprocessConfig
from .model import CLIP
from .preprocess import normalise

MAX_LOGIT_SCALE = math.log(100)  # the paper clips the temperature so that logits are never scaled over 100


def contrastive_loss(image: Tensor, text: Tensor, logit_scale: Tensor) -> Tensor:
    """Mean of the image-to-text and text-to-image cross entropies of one batch of matching pairs.

    image, text: [n, dim], L2-normalised; row i of one matches row i of the other. logit_scale: the scalar that
    multiplies cosines, already exponentiated. With torch.distributed running, each rank gives its own n rows
    and all ranks' rows are the candidates: the mean over ranks is the loss of the whole batch, and so, through
    DistributedDataParallel's averaging, is its gradient.
    """
    all_image, all_text, target = _of_all_ranks(image), _of_all_ranks(text), _matches(image)
    per_image = F.cross_entropy(logit_scale * image @ all_text.T, target)
    per_text = F.cross_entropy(logit_scale * text @ all_image.T, target)
    return (per_image + per_text) / 2


def sigmoid_loss(image: Tensor, text: Tensor, logit_scale: Tensor, logit_bias: Tensor) -> Tensor:
    """Mean over images of the sum over texts of -log sigmoid(logit), the logit negated where they do not match.

    As `contrastive_loss`; logits are logit_scale * cosine + logit_bias.
    """
    logits = logit_scale * image @ _of_all_ranks(text).T + logit_bias
    right = F.one_hot(_matches(image), logits.shape[1])
    return -F.logsigmoid((2 * right - 1) * logits).sum() / len(image)


def _of_all_ranks(rows: Tensor) -> Tensor:
    return _Gathered.apply(rows) if _ranks() > 1 else rows


def _matches(rows: Tensor) -> Tensor:
    """int64 [n]: for this rank's rows, the numbers of those that match among all ranks'."""
    first = dist.get_rank() * len(rows) if _ranks() > 1 else 0
    return torch.arange(first, first + len(rows), device=rows.device)


def _ranks() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


class _Gathered(torch.autograd.Function):
    """All ranks' rows, in rank order; each rank must have as many. Every rank's loss reaches back to the rows' own."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        ctx.count = len(rows)
        parts = [torch.empty_like(rows, memory_format=torch.contiguous_format) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        first = dist.get_rank() * ctx.count
        return total[first : first + ctx.count]


class ContrastiveObjective(nn.Module):
    """uint8 pixels and token ids -> the loss that the model's configuration names, as one module that
    DistributedDataParallel can wrap."""

    def __init__(self, clip: CLIP) -> None:
        super().__init__()
        self.clip = clip
        self.preprocess: PreprocessConfig = clip.config.preprocess

    def forward(self, pixels: Tensor, tokens: Tensor) -> Tensor:
        """pixels: uint8 [n, size, size, 3]; tokens: int64 [n, length]. Features and loss are in float32."""
        image = self.clip.encode_image(normalise(pixels, self.preprocess)).float()
        text = self.clip.encode_text(tokens).float()
        with torch.autocast(pixels.device.type, enabled=False):
            scale = self.clip.logit_scale.clamp(max=MAX_LOGIT_SCALE).exp()
            image, text, bias = F.normalize(image, dim=-1), F.normalize(text, dim=-1), self.clip.logit_bias
            if bias is None:
                return contrastive_loss(image, text, scale)
            return sigmoid_loss(image, text, scale, bias)
