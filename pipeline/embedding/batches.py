"""How images and captions are cut into forward passes. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...clipmodel.config import VisionConfig
from ..records import TokenIds

_CACHED = 2100  # positions a pass on a CPU: with more, activations leave its caches; with less, little is gained
_TOKENS_AN_IMAGE = 48  # of captions a pass, padding included, for each image a pass: at most
_START = 1 / 16  # what a pass costs besides its tokens: this part of the most there are


@dataclass(frozen=True)
class Passes:
    """Sizes of a forward pass.

    most: images a pass that memory allows, and so, by their tokens, captions. cached: whether fewer are as fast. step:
    captions, and their tokens, are padded to a multiple of it, for fewer shapes; but not beyond the model's context.
    """

    most: int
    cached: bool = False
    step: int = 1

    def images(self, vision: VisionConfig) -> int:
        """Images a pass: `most`, halved until what they are in the tower stays in a CPU's caches."""
        across = vision.image_size // (vision.patch_size or 16)
        return self.of_positions(across**2)

    def of_positions(self, positions: int) -> int:
        """Images, or captions of the context's length, a pass, of which each has so many positions."""
        count = self.most
        while self.cached and count > 1 and count * positions > _CACHED:
            count //= 2
        return count

    def texts(self, lengths: Sequence[int], context: int) -> Iterator[tuple[int, int, int]]:
        """(start, end, padded length) of each pass over captions of these lengths, which must ascend; at least one
        caption each. Of all ways to cut between lengths, the one with the least padding and fewest passes to start."""
        padded = [min(self.rows(length), context) for length in lengths]
        full = self.cached and padded[:1] == [context]
        budget = self.of_positions(context) * context if full else self.most * _TOKENS_AN_IMAGE
        bounds = [0, *(i for i in range(1, len(padded)) if padded[i] != padded[i - 1]), len(padded)]
        for start, end in _cheapest(padded, bounds, budget):
            most = max(budget // padded[end - 1], 1)
            for first in range(start, end, most):
                last = min(first + most, end)
                yield first, last, padded[last - 1]

    def rows(self, count: int) -> int:
        """`count`, or as many more as make a multiple of `step`."""
        return -(-count // self.step) * self.step


def _cheapest(lengths: Sequence[int], bounds: Sequence[int], budget: int) -> list[tuple[int, int]]:
    """The cheapest cut of ascending lengths into ranges from one of the bounds to another, each padded to its longest
    and split as the budget says. Found from left to right: there are fewer lengths than a context has tokens."""
    costs, best = [0.0], [0]
    for j in range(1, len(bounds) if lengths else 0):
        longest = lengths[bounds[j] - 1]
        most = max(budget // longest, 1)
        rows = [bounds[j] - start for start in bounds[:j]]
        totals = [costs[i] + n * longest + -(-n // most) * budget * _START for i, n in enumerate(rows)]
        costs.append(min(totals))
        best.append(totals.index(costs[j]))
    cut, j = [], len(best) - 1
    while j:
        cut.append((bounds[best[j]], bounds[j]))
        j = best[j]
    return cut[::-1]


def by_length(texts: Sequence[TokenIds]) -> list[list[int]]:
    """The positions of each distinct caption, shortest caption first."""
    positions: dict[bytes, list[int]] = {}
    for position, ids in enumerate(texts):
        positions.setdefault(ids.tobytes(), []).append(position)
    return sorted(positions.values(), key=lambda same: len(texts[same[0]]))


def pad(rows: Sequence[TokenIds], length: int = 0, padding: int = 0) -> Tensor:
    """Token ids -> int64 [n, longest, or `length`], padded. With zeros, CLIP's [EOS], its highest id, stays each row's
    maximum."""
    tokens = np.full((len(rows), length or max(map(len, rows))), padding, dtype=np.int64)
    for padded, ids in zip(tokens, rows, strict=True):
        padded[: len(ids)] = ids
    return torch.from_numpy(tokens)
