"""Similarity of pairs; pure."""

from __future__ import annotations

import numpy as np

from ..records import Vector


def similarity(image: Vector | None, text: Vector | None) -> float | None:
    """Cosine of two L2-normalised float32 vectors [dim], or None where one is missing."""
    if image is None or text is None:
        return None
    return float(np.dot(image, text))
