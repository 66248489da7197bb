"""Triton kernels of `gpu_resize`: Pillow's bicubic filter in integers, see `exact_resize` for the arithmetic.

Imported only where Triton is. With TRITON_INTERPRET=1 they run on a CPU, which is how the tests compare them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

from .exact_resize import BITS, Ints, Plans

_BLOCK = 1024
_AXIS = tl.constexpr(4)  # numbers an axis: source, resized, start of the crop, taps
_TASK = tl.constexpr(8)  # numbers an image and pass, see `_Pass`
_BITS = tl.constexpr(BITS)
_ONE = tl.constexpr(1 << BITS)
_HALF = tl.constexpr(1 << (BITS - 1))


def resample(addresses: Ints, widths: Ints, heights: Ints, plans: Plans, squares: Tensor) -> None:
    """addresses: of uint8 [height, width, 3] on the device of `squares`, uint8 [n, size, size, 3], which are filled."""
    size, device, n = squares.shape[1], squares.device, len(addresses)
    across, down = _Axes.of(widths, plans.width, plans.left, size), _Axes.of(heights, plans.height, plans.top, size)
    axes = torch.from_numpy(np.concatenate([across.numbers(), down.numbers()])).to(device)
    taps = int(max(across.taps.max(), down.taps.max()))
    first = torch.empty((2 * n, size), dtype=torch.int32, device=device)
    weights = torch.empty((2 * n, size, taps), dtype=torch.int32, device=device)
    block = triton.next_power_of_2(size)
    _weigh[(2 * n,)](axes, first, weights, size, taps, BLOCK=block, enable_fp_fusion=False)

    # The first pass makes only what the second one reads: rows where it is the horizontal one, columns otherwise.
    columns = plans.columns_first
    begin, count = np.where(columns, across.begin, down.begin), np.where(columns, across.count, down.count)
    held = 3 * size * count  # bytes between the passes
    between = torch.empty(int(held.sum()), dtype=torch.uint8, device=device)
    middle = between.data_ptr() + np.cumsum(held) - held
    of_across, of_down = np.arange(n), n + np.arange(n)
    none, row = np.zeros(n, np.int64), 3 * widths
    passes = [
        _Pass(
            source=addresses + begin * np.where(columns, 3, row),
            stride=row,
            rows=np.where(columns, size, count),
            values=3 * np.where(columns, count, size),
            axis=np.where(columns, of_down, of_across),
            vertical=columns.astype(np.int64),
            before=none,
            target=middle,
        ),
        _Pass(
            source=middle,
            stride=3 * np.where(columns, count, size),
            rows=none + size,
            values=none + 3 * size,
            axis=np.where(columns, of_across, of_down),
            vertical=(~columns).astype(np.int64),
            before=begin,
            target=squares.data_ptr() + 3 * size * size * np.arange(n),
        ),
    ]
    for each in passes:
        tasks = torch.from_numpy(each.numbers()).to(device)
        blocks = triton.cdiv(int((each.rows * each.values).max()), _BLOCK)
        _resample[(n, blocks)](tasks, axes, first, weights, size, taps, BLOCK=_BLOCK, enable_fp_fusion=False)


@dataclass(frozen=True)
class _Axes:
    """One axis of each image: int64 [n] each."""

    source: Ints  # pixels
    resized: Ints
    start: Ints  # of the crop
    taps: Ints  # source pixels that may count for one of the result
    begin: Ints  # of the source pixels that count for the crop
    count: Ints

    @classmethod
    def of(cls, source: Ints, resized: Ints, start: Ints, size: int) -> _Axes:
        scale = source / resized
        support = 2.0 * np.maximum(scale, 1.0)
        same = source == resized
        begin = np.maximum((start + 0.5) * scale - support + 0.5, 0).astype(np.int64)
        end = np.minimum(((start + size - 1 + 0.5) * scale + support + 0.5).astype(np.int64), source)
        return cls(
            source,
            resized,
            start,
            np.where(same, 1, np.ceil(support).astype(np.int64) * 2 + 1),
            np.where(same, start, begin),
            np.where(same, size, end - begin),
        )

    def numbers(self) -> Ints:
        return np.stack([self.source, self.resized, self.start, self.taps], axis=1)


@dataclass(frozen=True)
class _Pass:
    """What one pass does to each image: int64 [n] each."""

    source: Ints  # address of the first pixel that is read
    stride: Ints  # bytes between its rows
    rows: Ints  # of the result
    values: Ints  # of the result, a row: three a pixel
    axis: Ints  # whose weights
    vertical: Ints
    before: Ints  # pixels along the axis that are left out before the first one
    target: Ints  # address of the result, whose rows lie one behind another

    def numbers(self) -> Ints:
        columns = [self.source, self.stride, self.rows, self.values]
        columns += [self.axis, self.vertical, self.before, self.target]
        return np.stack(columns, axis=1)


@triton.jit
def _cubic(x):  # type: ignore[no-untyped-def]
    x = tl.abs(x)
    near = ((-0.5 + 2.0) * x - (-0.5 + 3.0)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * -0.5
    return tl.where(x < 1.0, near, tl.where(x < 2.0, far, 0.0))


@triton.jit
def _weigh(axes, first_to, weights_to, size, most, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """An axis a program: the first source pixel of each of the crop's, and the weights from there on."""
    axis = tl.program_id(0)
    source = tl.load(axes + axis * _AXIS)
    resized = tl.load(axes + axis * _AXIS + 1)
    start = tl.load(axes + axis * _AXIS + 2)
    taps = tl.load(axes + axis * _AXIS + 3)
    out = tl.arange(0, BLOCK)
    inside = out < size
    scale = source.to(tl.float64) / resized.to(tl.float64)
    stretch = tl.maximum(scale, 1.0)
    support = 2.0 * stretch
    inverse = 1.0 / stretch
    centre = ((start + out).to(tl.float64) + 0.5) * scale
    first = tl.maximum(centre - support + 0.5, 0.0).to(tl.int64)
    count = tl.minimum((centre + support + 0.5).to(tl.int64), source) - first
    total = tl.zeros((BLOCK,), tl.float64)
    for k in range(taps):  # one after the other, as Pillow adds
        weight = _cubic(((k + first).to(tl.float64) - centre + 0.5) * inverse)
        total += tl.where(k < count, weight, 0.0)
    inverse_total = 1.0 / tl.where(total == 0.0, 1.0, total)
    same = source == resized
    tl.store(first_to + axis * size + out, tl.where(same, start + out, first).to(tl.int32), mask=inside)
    for k in range(taps):
        weight = _cubic(((k + first).to(tl.float64) - centre + 0.5) * inverse)
        weight = tl.where(k < count, weight, 0.0)
        scaled = weight * inverse_total * _ONE
        rounded = (scaled + tl.where(weight < 0, -0.5, 0.5)).to(tl.int32)
        rounded = tl.where(same, _ONE, rounded).to(tl.int32)  # such an axis has one tap
        tl.store(weights_to + (axis * size + out) * most + k, rounded, mask=inside)


@triton.jit
def _resample(tasks, axes, first_from, weights_from, size, most, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """A block of one image's result a program."""
    task = tasks + tl.program_id(0) * _TASK
    source = tl.load(task).to(tl.pointer_type(tl.uint8))
    stride = tl.load(task + 1)
    rows = tl.load(task + 2)
    values = tl.load(task + 3)
    axis = tl.load(task + 4)
    vertical = tl.load(task + 5)
    before = tl.load(task + 6)
    target = tl.load(task + 7).to(tl.pointer_type(tl.uint8))
    begin = tl.program_id(1).to(tl.int64) * BLOCK
    if begin >= rows * values:
        return
    at = begin + tl.arange(0, BLOCK)
    inside = at < rows * values
    row = at // values
    value = at % values
    pixel = tl.where(vertical != 0, row, value // 3)  # along the axis
    step = tl.where(vertical != 0, stride, 3)
    base = tl.where(vertical != 0, value, row * stride + value % 3)
    first = tl.load(first_from + axis * size + pixel, mask=inside, other=0) - before
    total = tl.full((BLOCK,), _HALF, tl.int32)
    taps = tl.load(axes + axis * _AXIS + 3)
    for k in range(taps):
        weight = tl.load(weights_from + (axis * size + pixel) * most + k, mask=inside, other=0)
        # no pixel beyond the image has a weight
        read = tl.load(source + base + (first + k) * step, mask=inside & (weight != 0), other=0)
        total += weight * read.to(tl.int32)
    result = tl.minimum(tl.maximum(total >> _BITS, 0), 255)
    tl.store(target + at, result.to(tl.uint8), mask=inside)
