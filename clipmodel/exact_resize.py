"""Bicubic resizing equal to Pillow's to the last bit, in tensors of integers: on a GPU, or on a CPU as its oracle.

Pillow computes with integers (`src/libImaging/Resample.c`): weights of the antialiased cubic filter (a = -0.5), rounded
to 22 bits, and two passes, one along each axis, each rounded and clipped to 8 bits. Which pass goes first depends on
the sizes. Only the pixels of the crop are computed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .config import PreprocessConfig

Ints = npt.NDArray[np.int64]

_USUAL = PreprocessConfig()
BITS = 22  # of a weight, as Pillow has it: 32, less 8 of a pixel and 2 for weights below zero and above one
_SUPPORT = 2.0  # of the cubic filter, in pixels


@dataclass(frozen=True)
class Taps:
    """One pass: output pixel i is the sum of `weights[i, k]` times input pixel `first[i] + k`."""

    first: Tensor  # int32 [out]
    weights: Tensor  # int32 [out, taps], zero beyond the filter's end


@dataclass(frozen=True)
class Plans:
    """How images become the square: int64 [n] each, columns_first bool [n]."""

    width: Ints  # of the resized image, before the crop
    height: Ints
    left: Ints  # of the crop
    top: Ints
    columns_first: npt.NDArray[np.bool_]  # whether the vertical pass goes first

    @classmethod
    def of(cls, widths: Ints, heights: Ints, size: int, config: PreprocessConfig = _USUAL) -> Plans:
        """size: the encoder's, pixels. The whole crop must lie in the resized image (`fits`)."""
        resized = np.full_like(widths, config.resize_to or size)
        if config.resize == "squash":
            width = height = resized
        else:
            longer = (resized * np.maximum(widths, heights) / np.minimum(widths, heights)).astype(np.int64)
            width, height = np.where(widths > heights, longer, resized), np.where(widths > heights, resized, longer)
        return cls(
            width,
            height,
            left=_crop_starts(width - size, config),
            top=_crop_starts(height - size, config),
            columns_first=columns_first(widths, heights, width, height),
        )


def fits(size: int, config: PreprocessConfig) -> bool:
    """Whether these steps are a bicubic resize and a crop inside it."""
    return config.interpolation == "bicubic" and (config.resize_to or size) >= size


def _crop_starts(spare: Ints, config: PreprocessConfig) -> Ints:
    """As `resizing.crop_start`."""
    if config.steps == "transformers":
        return spare // 2
    return np.round(spare / 2.0).astype(np.int64)  # half to even


def columns_first(width: Any, height: Any, to_width: Any, to_height: Any) -> Any:
    """Whether Pillow's vertical pass goes before the horizontal one. Of numbers, or of arrays of them."""
    shrinks = height - to_height
    return (shrinks > 0) & (shrinks > 2 * (width - to_width))


@lru_cache(maxsize=4096)
def taps(source: int, resized: int, start: int, count: int) -> Taps:
    """Of the output pixels from `start` on, of an axis of `source` pixels resized to `resized`; on the CPU."""
    if source == resized:  # Pillow skips the pass
        first = torch.arange(start, start + count, dtype=torch.int32)
        return Taps(first, torch.full((count, 1), 1 << BITS, dtype=torch.int32))
    scale = source / resized
    stretch = max(scale, 1.0)
    support = _SUPPORT * stretch
    centres = (torch.arange(start, start + count, dtype=torch.float64) + 0.5) * scale
    first = (centres - support + 0.5).trunc().clamp(min=0)
    last = (centres + support + 0.5).trunc().clamp(max=source)
    offsets = torch.arange(math.ceil(support) * 2 + 1, dtype=torch.float64)
    distances = (offsets + first[:, None] - centres[:, None] + 0.5) * (1.0 / stretch)
    weights = torch.where(offsets < (last - first)[:, None], _cubic(distances), 0.0)
    total = torch.zeros(count, dtype=torch.float64)
    for column in weights.T:  # one after the other, as Pillow adds: another order has other last bits
        total += column
    scaled = weights * torch.where(total == 0.0, 1.0, 1.0 / total)[:, None] * (1 << BITS)
    rounded = (scaled + torch.where(weights < 0, -0.5, 0.5)).trunc()
    return Taps(first.int(), rounded.int())


def _cubic(x: Tensor) -> Tensor:
    x = x.abs()
    near = ((-0.5 + 2.0) * x - (-0.5 + 3.0)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * -0.5
    return torch.where(x < 1.0, near, torch.where(x < 2.0, far, 0.0))


def resize_and_crop(image: Tensor, size: int, config: PreprocessConfig = _USUAL) -> Tensor:
    """uint8 [height, width, channels] -> uint8 [size, size, channels]: Pillow's bicubic resize and the crop around the
    middle, as `config` has them. On the image's device, in any memory layout."""
    height, width = image.shape[:2]
    plan = Plans.of(np.array([width]), np.array([height]), size, config)
    across = taps(width, int(plan.width[0]), int(plan.left[0]), size)
    down = taps(height, int(plan.height[0]), int(plan.top[0]), size)
    if plan.columns_first[0]:
        return _pass(_pass(image, down, 0), across, 1)
    return _pass(_pass(image, across, 1), down, 0)


def _pass(image: Tensor, along: Taps, axis: int) -> Tensor:
    """uint8 of any shape -> the same with the axis resampled."""
    first, weights = along.first.to(image.device), along.weights.to(image.device)
    moved = image.movedim(axis, 0)
    total = torch.full((len(first), *moved.shape[1:]), 1 << (BITS - 1), dtype=torch.int32, device=image.device)
    end = len(moved) - 1
    for k in range(weights.shape[1]):
        rows = (first + k).clamp(max=end)
        total += moved[rows].int() * weights[:, k].view(-1, *[1] * (moved.dim() - 1))
    return (total >> BITS).clamp(0, 255).to(torch.uint8).movedim(0, axis)
