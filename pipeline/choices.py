"""The few words that settings are chosen from."""

from __future__ import annotations

from typing import Literal

from ..clipmodel.config import Precision as Precision

EmbeddingType = Literal["float16", "float32"]
Side = Literal["image", "text"]  # of a pair
IndexKind = Literal["flat", "ivf", "ivfpq", "hnsw"]
