"""Four classes, a dataset whose images are near them, and the job that labels it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clipmill.clipmodel.download import sha256_of
from clipmill.clipmodel.weights import Loaded
from clipmill.clipmodel.zeroshot import classifier
from clipmill.pipeline import LabelJob
from clipmill.pipeline.records import Vectors
from label_kit import NAMES, NOTHING
from made import make_dataset


@pytest.fixture(scope="session")
def classes(sharp: Loaded) -> Vectors:
    vectors: Vectors = classifier(sharp.model, sharp.tokenizer, NAMES, ["a drawing of a {}"]).numpy()
    return vectors


@pytest.fixture
def parts(classes: Vectors) -> list[dict[str, Any]]:
    """Embeddings near the classes' own; the third row of the first part failed."""
    noise = np.random.default_rng(0).standard_normal((5, 256)).astype(np.float32) * 0.01
    near = [classes[i] + noise[row] for row, i in enumerate([0, 1, 2, 3, 3])]
    images = np.stack(near) / np.linalg.norm(near, axis=1, keepdims=True)
    return [
        {
            "image_embedding": np.concatenate([images[:2], NOTHING, images[2:3]]),
            "error": [None, None, "decode: no image", None],
            "truth": ["red star", "blue fish", "a house", "red star"],
            "number": [10, 20, 40, 10],
        },
        {"image_embedding": images[3:], "truth": ["a house", "something else"], "number": [40, 99]},
    ]


@pytest.fixture
def make(parts: list[dict[str, Any]], sharp_weights: Path, tmp_path: Path) -> Callable[..., LabelJob]:
    """A dataset of these parts, and the job that labels it."""
    (tmp_path / "classes.csv").write_text("id,name\n" + "".join(f"{10 * n},{c}\n" for n, c in enumerate(NAMES, 1)))

    sha256 = sha256_of([sharp_weights])

    def made(parts: list[dict[str, Any]] = parts, **changes: Any) -> LabelJob:
        columns, out = ["truth", "number:int64"], tmp_path / "dataset"
        make_dataset(out, parts, dim=256, columns=columns, weights_sha256=sha256, **changes)
        return LabelJob(
            str(out), str(tmp_path / "labels"), str(tmp_path / "classes.csv"), "a drawing of a {}", top_k=3,
            model=f"tiny={sharp_weights}",
        )  # fmt: skip

    return made
