"""DataComp's baselines: which rows each keeps, and why the others go."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from clipmill.pipeline import FilterJob, filter
from clipmill.pipeline.dataset.subset import Subset
from clipmill.pipeline.errors import InputError
from made import make_dataset, unit_vectors

CAPTIONS = [
    "a dog on the beach",
    "ein Hund am Strand",
    "a dog",
    "a b c",
    None,
    "the old house by the sea",
    "cats and dogs in the sun",
]


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., FilterJob]:
    def made(*parts: dict[str, Any], name: str = "dataset", **changes: Any) -> FilterJob:
        make_dataset(tmp_path / name, parts, **changes)
        return FilterJob(str(tmp_path / name), str(tmp_path / "subset"))

    return made


def kept(job: FilterJob) -> list[int]:
    filter(job)
    subset = Subset.open(job.out)
    return [row for part in subset.parts for row in pq.read_table(Path(job.out) / "data" / part)["row"].to_pylist()]


def dropped(job: FilterJob) -> dict[str, int]:
    return {reason: count for reason, count in filter(job).funnel.dropped.items() if count}


def test_no_filter_keeps_what_was_embedded(make: Any) -> None:
    assert kept(replace(make({"caption": CAPTIONS}), recipe="no_filter")) == list(range(7))


def test_basic(make: Any) -> None:
    sides = {"width": [200, 500, 500, 500, 500, 199, 640], "height": [600, 500, 500, 500, 500, 600, 200]}
    job = replace(make({"caption": CAPTIONS, **sides}), recipe="basic")
    assert kept(job) == [0]
    assert dropped(job) == {
        "not English": 2,  # and the one without a caption
        "2 words or fewer": 1,
        "5 characters or fewer": 1,
        "shorter side under 200 px": 1,
        "aspect ratio over 3": 1,
    }


def test_basic_takes_the_original_sides_where_they_are_known(make: Any) -> None:
    part = {
        "caption": ["a dog on the beach"] * 3,
        "width": [100, 100, 300],
        "height": [100, 100, 300],
        "original_width": [400, None, 199],
        "original_height": [300, None, 400],
    }
    job = make(part, columns=["original_width:int64", "original_height:int64"])
    assert kept(replace(job, recipe="basic")) == [0]


def test_clip_score_by_threshold_or_by_fraction_of_any_models_column(make: Any) -> None:
    part = {"b32_similarity": [0.1, 0.2, 0.3, 0.4], "l14_similarity": [0.4, 0.3, float("nan"), 0.1]}
    job = replace(make(part, models=[("b32", "ViT-B-32"), ("l14", "ViT-L-14")]), recipe="clip_score")
    assert kept(replace(job, threshold=0.2)) == [1, 2, 3]
    assert kept(replace(job, threshold=0.3, alias="l14", out=job.out + "2")) == [0, 1]
    assert kept(replace(job, top_fraction=0.5, by="l14_similarity", out=job.out + "3")) == [0, 1]
    assert kept(replace(job, top_fraction=0.5, threshold=0.35, out=job.out + "4")) == [3]


def test_laion2b_is_the_b32_score_and_english(make: Any) -> None:
    part = {
        "caption": CAPTIONS,
        "l14_similarity": [0.1] * 7,
        "b32_similarity": [0.28, 0.5, 0.2799, 0.3, 0.3, None, 0.4],
    }
    job = replace(make(part, models=[("l14", "ViT-L-14"), ("b32", "ViT-B-32-quickgelu")]), recipe="laion2b")
    assert kept(job) == [0, 3, 6]
    assert dropped(job) == {"not English": 2, "no b32_similarity": 1, "b32_similarity below 0.28": 1}
    other = replace(
        make({"caption": CAPTIONS, "similarity": [0.3] * 7}, name="other"), recipe="laion2b", by="similarity"
    )
    assert kept(replace(other, out=job.out + "2")) == [0, 2, 3, 5, 6]


def test_text_based_is_english_with_a_word_of_the_vocabulary(make: Any, tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("dog\n\nOld House\n")
    job = replace(make({"caption": CAPTIONS}), recipe="text_based", vocabulary=str(tmp_path / "words.txt"))
    assert kept(job) == [0, 2, 5, 6]
    assert dropped(job) == {"not English": 2, "no word of the vocabulary": 1}
    (tmp_path / "words.txt").write_text("\n")
    with pytest.raises(InputError, match="no word in it"):
        filter(job)


@pytest.fixture
def clusters() -> np.ndarray:
    """float32 [60, 8]: twenty around each of three directions, in turn."""
    around = np.tile(np.eye(8, dtype=np.float32)[:3], (20, 1)) + 0.05 * unit_vectors(0, 60, 8)
    vectors: np.ndarray = around / np.linalg.norm(around, axis=1, keepdims=True)
    return vectors


def test_image_based_keeps_the_cells_in_which_the_reference_falls(make: Any, clusters: np.ndarray) -> None:
    captions = ["a dog on the beach"] * 58 + ["dog", "ein Hund am Strand"]
    reference = make({"image_embedding": clusters[0:6:3]}, {}, name="reference", dim=8).dataset
    job = make({"image_embedding": clusters, "caption": captions, "similarity": np.linspace(0, 1, 60)}, dim=8)
    job = replace(job, recipe="image_based", reference=reference, cells=3)
    assert kept(job) == list(range(0, 58, 3))  # 57 is of the same cell, 58 and 59 are not English captions of two words
    assert dropped(job) == {"not English": 1, "1 word or fewer": 1, "far from the reference": 38}
    both = replace(job, recipe="image_based_intersect_clip_score", top_fraction=0.5, out=job.out + "2")
    assert kept(both) == [row for row in range(0, 58, 3) if row >= 29]


def test_a_reference_of_another_model_is_refused(make: Any, clusters: np.ndarray) -> None:
    other = make({"image_embedding": clusters}, name="other", dim=8, weights_sha256="1" * 64).dataset
    job = make({"image_embedding": clusters}, dim=8)
    with pytest.raises(InputError, match=r"--reference .*other was made with tiny"):
        filter(replace(job, recipe="image_based", reference=other))


def test_image_based_of_failures_alone_keeps_nothing(make: Any, clusters: np.ndarray) -> None:
    make({"image_embedding": clusters}, name="reference", dim=8)
    job = make({"error": ["decode: no image"] * 3, "caption": ["a dog on the beach"] * 3}, dim=8)
    job = replace(job, recipe="image_based", reference=job.dataset.replace("dataset", "reference"))
    assert kept(job) == []
    assert kept(replace(job, failed=True, out=job.out + "2")) == []
