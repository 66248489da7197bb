"""A sample of many embeddings, and the plane on which they differ most: principal components (Pearson, 1901)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..records import Vector, Vectors
from .scan import Numbers


@dataclass(frozen=True)
class Plane:
    """mean: float32 [dim]. axes: float32 [dim, 2], orthonormal, the widest first."""

    mean: Vector
    axes: Vectors

    def points(self, vectors: Vectors) -> Vectors:
        """float [n, dim] -> float32 [n, 2]."""
        return np.asarray((vectors.astype(np.float32) - self.mean) @ self.axes, dtype=np.float32)


def plane_of(vectors: Vectors) -> Plane:
    """Of float [n, dim], n at least 1, all finite. An axis points to where its largest number is positive, so that the
    same vectors give the same plane."""
    floats = vectors.astype(np.float32)
    mean = floats.mean(axis=0)
    centred = floats - mean
    _, axes = np.linalg.eigh(centred.T.astype(np.float64) @ centred)
    widest = axes[:, ::-1][:, :2]
    largest = np.take_along_axis(widest, np.abs(widest).argmax(axis=0)[None], axis=0)
    return Plane(mean, (widest * np.sign(largest)).astype(np.float32))


def drawn(positions: Numbers, count: int) -> Numbers:
    """At most `count` of them at random, the same each time, ascending."""
    if len(positions) <= count:
        return positions
    return np.sort(np.random.default_rng(0).choice(positions, count, replace=False, shuffle=False))
