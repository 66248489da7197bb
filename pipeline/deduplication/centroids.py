"""The cells' centroids, and the axes of sketches: found once, in one task, in vectors of parts all over the data."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..records import Vectors
from . import kmeans
from .parts import Candidates
from .sketch import Axes
from .sorted_files import Ranges
from .state import KEPT, Run

CENTROIDS = f"{KEPT}/centroids.npy"
_AXES = f"{KEPT}/axes.npz"

_ONE_CELL = 1 << 15  # vectors up to which all are compared with all, in seconds
_A_CELL, _MOST, _AT_LEAST = 64, 1 << 20, 40  # vectors that k-means sees: for a cell, in all, but for a cell at least
_A_DIMENSION = 8  # vectors that axes are found from, at least
_SPARE = 1.5  # times as many are read, since parts differ
_SEED = 0


@dataclass(frozen=True)
class TrainCells:
    """Writes float32 [cells, dim], and before it the axes. cells: how many; None for a number that follows from that of
    candidates."""

    candidates: Candidates
    copies: Ranges  # of the runs, see `FindCopies`
    count: int  # candidates
    cells: int | None

    def __call__(self, runs: Sequence[Run]) -> None:
        cells = self.cells or (1 if self.count <= _ONE_CELL else round(math.sqrt(self.count) / 2))
        (dim,) = self.candidates.record["vector"].shape
        most = max(_A_DIMENSION * dim, cells * max(_AT_LEAST, min(_A_CELL, _MOST // cells)) if cells > 1 else 0)
        some = _some(runs, most * _SPARE / max(1, self.count))
        batches = (vectors for run in some for _, vectors in self.candidates.of(run, self.copies.of(run.number)))
        sampled = kmeans.sample(batches, most, _SEED).reshape(-1, dim)
        centroids = np.zeros((1, dim), np.float32)
        if cells > 1 and len(sampled):
            centroids = kmeans.train_fast(sampled, cells, _SEED)
        file = io.BytesIO()
        np.save(file, centroids)
        self.candidates.output.write(_AXES, Axes.of(sampled).written())
        self.candidates.output.write(CENTROIDS, file.getvalue())

    def read(self) -> Vectors:
        centroids: Vectors = np.load(io.BytesIO(self.candidates.output.read(CENTROIDS) or b""))
        return centroids

    def read_axes(self) -> Axes | None:
        """None where an earlier version found the centroids: it wrote no sketches either."""
        data = self.candidates.output.read(_AXES)
        return Axes.read(data) if data else None


def _some(runs: Sequence[Run], share: float) -> list[Run]:
    """The runs, with such a share of their parts, spread evenly over all of them; all where the share is one."""
    parts = [(run, numbered) for run in runs for numbered in run.parts]
    count = min(len(parts), math.ceil(len(parts) * share))
    chosen = {parts[place * len(parts) // count][1] for place in range(count)}
    return [
        Run(run.number, run.generation, kept)
        for run in runs
        if (kept := tuple(numbered for numbered in run.parts if numbered in chosen))
    ]
