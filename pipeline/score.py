"""Similarity of pairs; pure."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .records import Vector


def similarity(image: Vector | None, text: Vector | None) -> float | None:
    """Cosine of two L2-normalised float32 vectors [dim], or None where one is missing."""
    if image is None or text is None:
        return None
    return float(np.dot(image, text))


def normalised(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Rows of float32 [n, dim] scaled to length one; a row of zeros stays one."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.maximum(lengths, np.finfo(np.float32).tiny)
