"""Which of many vectors are near each other: exact in float32, and on a GPU looked for in half precision first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ...clipmodel.products import products
from ..records import Vectors
from .cells import Records
from .components import Ids, connect, spanning
from .kmeans import device, unit

_ROWS = 1 << 16  # vectors held on each side: 128 MiB of float32[512]
_TILE, _GPU_TILE = 2048, 8192  # vectors a side of the part of the similarity matrix that is held
_PAIRS = 1 << 20  # held before they are connected
_CHECKED = 1 << 16  # candidates computed again at a time: 256 MiB of two float32[512] each
_MANY = 16  # where more than one of so many cosines is a candidate, all are computed again, as one product

# The error of a cosine in half precision. Rounding unit vectors: 2^-10, since the products' amounts sum to 1 at the
# most (Cauchy and Schwarz); rounding the result: 2^-11. Sums are in float32. Twice as much is allowed, for subnormals.
HALF_ERROR = 2.0**-9 + 2.0**-10


def forest(records: Records, order: Ids, fresh: int, threshold: float) -> Ids:
    """int64 [k, 2]: the fewest pairs of ids that connect all whose cosine reaches the threshold.

    records: of a cell and of others; order: int64 [n], where the cell's are in them. Of the pairs, one row at least is
    among the first `fresh` of these: the others were compared before.
    """
    return _spanning(records, order, fresh, threshold, np.arange(0, fresh, _ROWS))


def forest_of_stretch(records: Records, fresh: int, length: int, threshold: float) -> Ids:
    """The same of a cell too large for one task: its first `length` rows, with themselves and all after them."""
    starts = np.arange(0, min(fresh, length), _ROWS)
    return _spanning(records, np.arange(len(records)), min(fresh, length), threshold, starts)


def _spanning(records: Records, order: Ids, fresh: int, threshold: float, starts: Ids) -> Ids:
    first = np.arange(len(order))
    for start in starts.tolist():
        left = None
        for other in range(start, len(order), _ROWS):
            right = Block.of(records, order[other : other + _ROWS])
            left = left or _part(right, 0, fresh - start)
            first = _connected(first, left, right, (start, other), threshold)
    pairs: Ids = records["id"][order[spanning(first)]]
    return pairs


def as_compared(stored: npt.NDArray[Any]) -> Vectors:
    """float32 [n, dim] of length one: stored in fewer bits, vectors are not quite."""
    return unit(stored.astype(np.float32))


@dataclass(frozen=True)
class Block:
    """Vectors of length one on the device that compares them: float32 [n, dim], and on a GPU float16, too."""

    exact: Tensor
    half: Tensor | None

    @classmethod
    def of(cls, records: Records, order: Ids) -> Block:
        vectors = torch.from_numpy(as_compared(records["vector"][order])).to(device())
        return cls(vectors, vectors.half() if vectors.is_cuda else None)


def _connected(first: Ids, left: Block, right: Block, places: tuple[int, int], threshold: float) -> Ids:
    """`first`, see `connect`, with all pairs of `left` and `right`, which are its things from these places on."""
    waiting: list[Ids] = []
    tile = _TILE if left.half is None else _GPU_TILE
    for i in range(0, len(left.exact), tile):
        for j in range(0, len(right.exact), tile):
            if places[1] + j + tile <= places[0] + i:
                continue  # seen from the other side
            origin = np.array([places[0] + i, places[1] + j])
            pairs = near(_part(left, i, tile), _part(right, j, tile), threshold, origin, first)
            waiting.append(pairs)
            if sum(map(len, waiting)) > _PAIRS:
                first, waiting = connect(first, np.concatenate(waiting)), []
    return connect(first, np.concatenate(waiting)) if waiting else first


def _part(block: Block, start: int, size: int) -> Block:
    half = None if block.half is None else block.half[start : start + size]
    return Block(block.exact[start : start + size], half)


def near(left: Block, right: Block, threshold: float, origin: Ids, first: Ids) -> Ids:
    """int64 [k, 2]: pairs of things whose cosine reaches the threshold, and that `first` does not connect yet. origin:
    the first thing of either block."""
    if left.half is None or right.half is None:
        found = torch.nonzero(products(left.exact, right.exact) >= threshold)
        return _apart(found.cpu().numpy() + origin, first)
    candidates = torch.nonzero(products(left.half, right.half) >= threshold - HALF_ERROR)
    if len(candidates) * _MANY > len(left.exact) * len(right.exact):
        return near(Block(left.exact, None), Block(right.exact, None), threshold, origin, first)
    pairs = _apart(candidates.cpu().numpy() + origin, first)
    kept = [np.empty((0, 2), np.int64)]
    for start in range(0, len(pairs), _CHECKED):
        some = pairs[start : start + _CHECKED]
        at = torch.from_numpy(some - origin).to(left.exact.device)
        cosines = (left.exact[at[:, 0]] * right.exact[at[:, 1]]).sum(dim=1)
        kept.append(some[(cosines >= threshold).cpu().numpy()])
    return np.concatenate(kept)


def _apart(pairs: Ids, first: Ids) -> Ids:
    """Each pair once, and only those that are not connected yet."""
    pairs = pairs[pairs[:, 0] < pairs[:, 1]]
    apart: Ids = pairs[first[pairs[:, 0]] != first[pairs[:, 1]]]
    return apart
