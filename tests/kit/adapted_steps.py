"""Labels and search by another library's model: what they find is what that library's own loop says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from clipmill.pipeline import LabelJob, SearchJob, label, search
from clipmill.pipeline.errors import ModelError
from fakes import jpeg


@dataclass(frozen=True)
class Adapted:
    """A dataset's model. spec: as for `--model`. loop: of texts, to the vectors of the dataset's images and theirs."""

    dataset: str
    alias: str
    spec: str
    loop: Callable[[Sequence[str]], tuple[Any, Any]]

    def check_labels(self, folder: Path, refusal: str) -> None:
        """refusal: what is said where the model is not named."""
        (folder / "classes.txt").write_text("cat\nlarge dog\n")
        classes, out = str(folder / "classes.txt"), folder / "labels"
        job = LabelJob(self.dataset, str(out), classes, "a photo of a {}", alias=self.alias)
        with pytest.raises(ModelError, match=refusal):
            label(job)
        label(replace(job, model=self.spec))
        images, texts = self.loop(["a photo of a cat", "a photo of a large dog"])
        written = pq.read_table(next((out / "data").iterdir()))
        assert written["label_id"].to_pylist() == (images @ texts.T).argmax(axis=1).tolist()
        np.testing.assert_allclose(written["label_similarity"].to_numpy(), (images @ texts.T).max(axis=1), atol=1e-4)

    def check_search(self, folder: Path, image: int) -> None:
        """image: the number of one that is in the dataset."""
        text = f"number {image} word word"
        job = SearchJob(self.dataset, text, alias=self.alias, model=self.spec, k=2)
        images, (wanted,) = self.loop([text])
        best = search(job).hits[0]
        assert best.row["key"] == f"{(images @ wanted).argmax():05d}"
        assert best.score == pytest.approx(float((images @ wanted).max()), abs=1e-3)
        (folder / "query.jpg").write_bytes(jpeg(image))
        by_image = search(replace(job, text=None, image=str(folder / "query.jpg")))
        assert by_image.hits[0].row["key"] == f"{image:05d}"
