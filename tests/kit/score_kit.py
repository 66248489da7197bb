"""A small dataset to score, what scoring it wrote, and one head."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from clipmill.pipeline import ScoreJob
from clipmill.pipeline.dataset.dataset import Dataset
from clipmill.pipeline.scoring.inputs import Embeddings
from clipmill.pipeline.scoring.scorers import Scorer, scorers_of
from made import unit_vectors

DIM = 4
NOTHING = np.full((1, DIM), np.nan, np.float32)
PARTS: list[dict[str, Any]] = [
    {
        "image_embedding": np.concatenate([unit_vectors(1, 2), NOTHING, unit_vectors(2, 1)]),
        "text_embedding": unit_vectors(3, 4),
        "error": [None, None, "decode: no image", None],
    },
    {"image_embedding": unit_vectors(4, 2), "text_embedding": unit_vectors(5, 2)},
]


def rows(job: ScoreJob) -> list[dict[str, Any]]:
    parts = Dataset.open(job.dataset).parts
    return [row for part in parts for row in pq.read_table(Path(job.out) / "data" / part).to_pylist()]


def stored(job: ScoreJob, column: str = "image_embedding") -> list[Any]:
    return [row[column] for batch in Dataset.open(job.dataset).batches([column]) for row in batch.to_pylist()]


def scorer(dataset: Dataset, weights: Any, **changes: Any) -> Scorer:
    job = ScoreJob(dataset.url, "unused", [f"s={weights}"])
    (only,) = scorers_of(replace(job, **changes), dataset, Embeddings("image_embedding", dataset.model().dim))
    return only


def values(scorer: Scorer, vectors: Any) -> Any:
    return np.stack(list(scorer(vectors).values()), axis=1)
