"""The few words that settings are chosen from."""

from __future__ import annotations

from typing import Literal

Precision = Literal["fp32", "bf16", "fp16"]
EmbeddingType = Literal["float16", "float32"]
Side = Literal["image", "text"]  # of a pair
IndexKind = Literal["flat", "ivf", "ivfpq", "hnsw"]
