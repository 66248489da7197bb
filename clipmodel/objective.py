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
_NEWTON_STEPS = 8  # twice what a batch took that was hard to fit
_TINY, _FLAT = 1e-30, 0.1  # so that no logarithm is of zero, and no step too long


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


@torch.no_grad()
def best_bias(image: Tensor, text: Tensor, logit_scale: Tensor) -> Tensor:
    """The bias at which `sigmoid_loss` of the batch is least, a scalar: what the wrong pairs have too much of
    probability, all together, is what the right ones lack.

    Newton's method on the logarithm of the quotient of these two, which is nearly linear. It begins below, where the
    likeliest pair is as probable as one drawn at random is right.
    """
    logits, matches = logit_scale * image @ _of_all_ranks(text).T, _matches(image)[:, None]
    bias = -_over_ranks(logits.max(), dist.ReduceOp.MAX) - math.log(max(1, logits.shape[1] - 1))
    right = logits.gather(1, matches)
    logits.scatter_(1, matches, -math.inf)  # the wrong ones are left
    for _ in range(_NEWTON_STEPS):
        probable, lacking = torch.sigmoid(logits + bias), torch.sigmoid(-right - bias)
        sums = torch.stack([of.sum() for p in (probable, lacking) for of in (p, p * (1 - p))])
        much, much_slope, little, little_slope = _over_ranks(sums, dist.ReduceOp.SUM).clamp(min=_TINY)
        slope = much_slope / much + little_slope / little
        bias += (little.log() - much.log()) / slope.clamp(min=_FLAT)
    return bias


def _over_ranks(values: Tensor, how: Any) -> Tensor:
    """The values of all ranks as one; may overwrite its input."""
    if _ranks() > 1:
        dist.all_reduce(values, how)
    return values


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
    DistributedDataParallel can wrap.

    Of a model in training, the bias of the sigmoid loss is set to the best one for each batch, where its gradient is
    zero. Steps of the towers' size would take thousands to follow it, and until then all pairs pull one way: the
    towers learn how alike pictures and captions are on the whole, before which belong together.
    """

    def __init__(self, clip: CLIP) -> None:
        super().__init__()
        self.clip = clip
        if clip.logit_bias is not None:
            clip.logit_bias.requires_grad_(False)
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
            if self.clip.training:
                bias.copy_(best_bias(image, text, scale))
            return sigmoid_loss(image, text, scale, bias)
