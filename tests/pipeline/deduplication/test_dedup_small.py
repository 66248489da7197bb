"""`dedup` of datasets of a few rows: which of a group stays, and what there is to say of nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from clipmill.pipeline.deduplication.dedup import dedup
from clipmill.pipeline.errors import InputError
from clipmill.pipeline.job import DedupJob
from dedup_kit import kept_of
from made import make_dataset, unit_vectors
from side_kit import write_side

pytestmark = pytest.mark.usefixtures("without_ray")


def test_ties_go_to_the_first_in_the_dataset_and_what_has_no_value_goes(tmp_path: Path) -> None:
    same = np.repeat(unit_vectors(1, 1), 5, axis=0)
    columns = {"sha256": ["a"] * 5, "image_embedding": same, "similarity": [None, float("nan"), 0.2, 0.3, 0.3]}
    made = make_dataset(tmp_path / "in", [columns])
    assert kept_of(dedup(DedupJob(made.url, str(tmp_path / "out")))) == {(0, 3)}
    assert kept_of(dedup(DedupJob(made.url, str(tmp_path / "b"), keep_by="row", exact=False))) == {(0, 4)}
    assert kept_of(dedup(DedupJob(made.url, str(tmp_path / "c"), keep_by="sha256"))) == {(0, 0)}


def test_the_best_by_a_joined_score_stays_and_another_score_is_another_subset(tmp_path: Path) -> None:
    same = np.repeat(unit_vectors(1, 1), 5, axis=0)
    made = make_dataset(tmp_path / "in", [{"sha256": ["a"] * 5, "image_embedding": same}] * 2)
    nan, scores = float("nan"), tmp_path / "scores"
    write_side(
        scores, made, lambda own: {"score": [nan, 1.0, 2.0 + 3 * (own["shard"][0].as_py()[-5] == "1"), 3.0, None]}
    )
    job = DedupJob(made.url, str(tmp_path / "out"), keep_by="s.score", joins={"s": str(scores)})
    assert kept_of(dedup(job)) == {(1, 2)} and dedup(job).done_before
    (scores / made.parts[1]).unlink()
    write_side(scores, made, lambda own: {"score": [9.0, 1.0, 5.0, 3.0, nan]})
    assert kept_of(dedup(job)) == {(1, 0)}
    pq.write_table(pq.read_table(scores / made.parts[0]).slice(1), scores / made.parts[0])
    with pytest.raises(InputError, match=r"--join s=.* has 4 rows, and the dataset's part 5"):
        dedup(job)


def test_captions_are_compared_when_asked_for(tmp_path: Path) -> None:
    texts = unit_vectors(4, 4)
    texts[3] = texts[1] + 0.01
    columns = {
        "image_embedding": np.repeat(unit_vectors(1, 1), 4, axis=0), "text_embedding": texts,
        "caption": ["a", "b", "a", "c"], "sha256": ["x"] * 4, "similarity": [0.1, 0.2, 0.3, 0.1],
    }  # fmt: skip
    made = make_dataset(tmp_path / "in", [columns])
    summary = dedup(DedupJob(made.url, str(tmp_path / "out"), side="text"))
    assert dict(summary.funnel.dropped) == {"failed": 0, "exact duplicate": 1, "near duplicate": 1}
    assert kept_of(summary) == {(0, 1), (0, 2)}


def empty() -> dict[str, Any]:
    return {"key": []}


def failed() -> dict[str, Any]:
    none = np.full((4, 4), np.nan)
    return {"error": ["decode: bad"] * 4, "sha256": ["a"] * 4, "image_embedding": none, "text_embedding": none}


def images_only() -> dict[str, Any]:
    return {"sha256": list("aabc"), "image_embedding": unit_vectors(0, 4)[[0, 0, 1, 1]]}


def texts_only() -> dict[str, Any]:
    return {"caption": list("aabc"), "text_embedding": unit_vectors(0, 4)[[0, 0, 1, 1]]}


@pytest.mark.parametrize(
    ("columns", "side", "dropped", "kept"),
    [
        (empty(), "image", [0, 0, 0], 0),
        (failed(), "image", [4, 0, 0], 0),
        (failed(), "text", [4, 0, 0], 0),
        (images_only(), "image", [0, 1, 1], 2),
        (images_only(), "text", [0, 0, 0], 4),
        (texts_only(), "text", [0, 1, 1], 2),
        (texts_only(), "image", [0, 0, 0], 4),
    ],
)
@pytest.mark.parametrize("cells", [None, 3])
def test_a_dataset_without_much_has_a_sensible_answer(
    columns: dict[str, Any], side: Any, dropped: list[int], kept: int, cells: int | None, tmp_path: Path
) -> None:
    made = make_dataset(tmp_path / "in", [columns])
    summary = dedup(DedupJob(made.url, str(tmp_path / "out"), side=side, cells=cells))
    assert list(summary.funnel.dropped.values()) == dropped
    assert summary.funnel.kept == kept


def test_a_side_that_was_not_embedded_is_refused(tmp_path: Path) -> None:
    made = make_dataset(tmp_path / "in", [texts_only()], embeds="texts")
    with pytest.raises(InputError, match="has no embeddings of images; use --no-near, or the other --for"):
        dedup(DedupJob(made.url, str(tmp_path / "out")))
    assert dedup(DedupJob(made.url, str(tmp_path / "out"), near=False)).funnel.kept == 4
