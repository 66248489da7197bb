"""Rows to filter."""

from __future__ import annotations

from typing import Any

import numpy as np
from made import unit_vectors

NAN = float("nan")


def many(rows: int = 500, parts: int = 5, seed: int = 0) -> list[dict[str, Any]]:
    """Scores with many ties; some null, some NaN, some failed rows; odd lengths; an empty part."""
    random = np.random.default_rng(seed)
    made: list[dict[str, Any]] = []
    for part in range(parts):
        count = rows // parts + part
        scores: list[Any] = np.round(random.normal(0.25, 0.05, count), 2).astype(np.float32).tolist()
        failed = random.random(count) < 0.1
        for row in np.flatnonzero(random.random(count) < 0.1):
            scores[row] = NAN
        made.append(
            {
                "similarity": [None if bad else score for bad, score in zip(failed, scores, strict=True)],
                "error": ["decode: no image" if bad else None for bad in failed],
                "width": random.integers(100, 400, count),
                "caption": [f"number {row}" for row in range(count)],
                "image_embedding": unit_vectors(part, count),
            }
        )
    return [*made, {}]
