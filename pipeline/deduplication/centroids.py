"""The cells' centroids: trained once, in one task, on vectors from parts all over the dataset."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..records import Vectors
from . import kmeans
from .parts import Candidates
from .sorted_files import Ranges
from .state import KEPT, Run

CENTROIDS = f"{KEPT}/centroids.npy"

_ONE_CELL = 1 << 15  # vectors up to which all are compared with all, in seconds
_A_CELL, _MOST, _AT_LEAST = 64, 1 << 20, 40  # vectors that k-means sees: for a cell, in all, but for a cell at least
_SPARE = 1.5  # times as many are read, since parts differ
_SEED = 0


@dataclass(frozen=True)
class TrainCells:
    """Writes float32 [cells, dim]. cells: how many; None for a number that follows from that of candidates."""

    candidates: Candidates
    copies: Ranges  # of the runs, see `FindCopies`
    count: int  # candidates
    cells: int | None

    def __call__(self, runs: Sequence[Run]) -> None:
        cells = self.cells or (1 if self.count <= _ONE_CELL else round(math.sqrt(self.count) / 2))
        centroids = np.zeros((1, self.candidates.record["vector"].shape[0]), np.float32)
        if cells > 1:
            most = cells * max(_AT_LEAST, min(_A_CELL, _MOST // cells))
            some = _some(runs, most * _SPARE / max(1, self.count))
            batches = (vectors for run in some for _, vectors in self.candidates.of(run, self.copies.of(run.number)))
            sampled = kmeans.sample(batches, most, _SEED)
            centroids = kmeans.train_fast(sampled, cells, _SEED) if len(sampled) else centroids
        file = io.BytesIO()
        np.save(file, centroids)
        self.candidates.output.write(CENTROIDS, file.getvalue())

    def read(self) -> Vectors:
        centroids: Vectors = np.load(io.BytesIO(self.candidates.output.read(CENTROIDS) or b""))
        return centroids


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
