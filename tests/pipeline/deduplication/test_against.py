"""Decontamination: what other datasets have is dropped, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from clipmill.pipeline.deduplication import against as module
from clipmill.pipeline.deduplication.dedup import DedupSummary, dedup
from clipmill.pipeline.errors import InputError, UserError
from clipmill.pipeline.job import DedupJob
from made import make_dataset, unit_vectors

pytestmark = pytest.mark.usefixtures("without_ray")

DIM, ROWS = 32, 50
Row = tuple[int, int]  # part, row


def near(vector: np.ndarray, cosine: float, seed: int) -> np.ndarray:
    """A unit vector at this cosine."""
    other = unit_vectors(seed, 1, len(vector))[0]
    other -= (other @ vector) * vector
    return np.asarray(cosine * vector + np.sqrt(1 - cosine**2) * other / np.linalg.norm(other), np.float32)


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> DedupJob:
    """Two parts; of a test set of ten: copies (0, 1) and (1, 2), near ones (0, 7) and (1, 8), one at a smaller cosine
    (0, 9); a failed copy (1, 10); duplicates of each other (0, 20) and (0, 21), and of a near one, (1, 30)."""
    folder = tmp_path_factory.mktemp("against")
    vectors, tests = unit_vectors(1, 2 * ROWS, DIM), unit_vectors(2, 10, DIM)
    sha256, test_sums = [f"{i:064x}" for i in range(2 * ROWS)], [f"{i:064x}" for i in range(1000, 1010)]
    error: list[str | None] = [None] * (2 * ROWS)
    for place, test in ((1, 0), (ROWS + 2, 3), (ROWS + 10, 4)):
        sha256[place], vectors[place] = test_sums[test], tests[test]
    vectors[1] = unit_vectors(9, 1, DIM)[0]  # the same file, decoded by others: its embedding need not be near
    error[ROWS + 10] = "decode: truncated JPEG"
    for place, test, cosine in ((7, 5, 0.97), (ROWS + 8, 6, 0.96), (9, 7, 0.93)):
        vectors[place] = near(tests[test], cosine, place)
    vectors[21] = vectors[20]
    vectors[ROWS + 30] = near(vectors[7], 0.96, 5)
    assert (vectors[ROWS + 30] @ tests.T).max() < 0.95
    columns = {"sha256": sha256, "image_embedding": vectors, "error": error}
    cut = [{name: values[p * ROWS : (p + 1) * ROWS] for name, values in columns.items()} for p in range(2)]
    make_dataset(folder / "in", cut, dim=DIM)
    broken = [None] * 9 + ["decode: empty file"]  # (0, 40) equals a test that failed: nobody can say
    vectors[40] = tests[9]
    make_dataset(folder / "tests", [{"sha256": test_sums, "image_embedding": tests, "error": broken}], dim=DIM)
    return DedupJob(str(folder / "in"), str(folder / "out"), against=[str(folder / "tests")], only_against=True)


@pytest.fixture
def fresh(job: DedupJob, tmp_path: Path) -> Callable[..., DedupJob]:
    return lambda **changes: replace(job, out=str(tmp_path / "out"), **changes)


def gone(summary: DedupSummary) -> set[Row]:
    tables = [pq.read_table(path) for path in sorted(Path(summary.out).glob("data/*.parquet"))]
    kept = {(int(row["shard"][-9:-4]), row["row"]) for table in tables for row in table.to_pylist()}
    assert len(kept) == summary.funnel.kept == summary.funnel.rows - sum(summary.funnel.dropped.values())
    return {(part, row) for part in range(2) for row in range(ROWS)} - kept - {(1, 10)}  # which failed


def test_what_the_test_set_has_is_dropped_and_counted_by_how(fresh: Callable[..., DedupJob]) -> None:
    summary = dedup(fresh())
    assert gone(summary) == {(0, 1), (1, 2), (0, 7), (1, 8)}
    assert dict(summary.funnel.dropped) == {
        "failed": 1,
        "equal to a row of --against": 2,
        "near a row of --against": 2,
        "exact duplicate": 0,
        "near duplicate": 0,
    }
    assert dedup(fresh()).done_before


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"near": False}, {(0, 1), (1, 2)}),
        ({"exact": False}, {(1, 2), (0, 7), (1, 8)}),
        ({"threshold": 0.92}, {(0, 1), (1, 2), (0, 7), (1, 8), (0, 9), (1, 30)}),
    ],
)
def test_the_options_of_duplicates_say_how_they_are_compared(
    fresh: Callable[..., DedupJob], changes: dict[str, Any], expected: set[Row]
) -> None:
    assert gone(dedup(fresh(**changes))) == expected


def test_duplicates_are_found_among_what_is_left(fresh: Callable[..., DedupJob]) -> None:
    """What is near only to a row that was dropped stays."""
    summary = dedup(fresh(only_against=False))
    dropped = gone(summary)
    assert dropped - {(0, 20), (0, 21)} == {(0, 1), (1, 2), (0, 7), (1, 8)} and len(dropped) == 5
    assert summary.funnel.dropped["near duplicate"] == 1 and summary.groups == {2: 1}


def test_small_blocks_and_tiles_give_the_same(fresh: Callable[..., DedupJob], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK", 1)
    monkeypatch.setattr(module, "_TILE", 3)
    assert gone(dedup(fresh())) == {(0, 1), (1, 2), (0, 7), (1, 8)}


def test_on_ray_it_is_the_same(cluster: None, fresh: Callable[..., DedupJob]) -> None:
    assert gone(dedup(fresh(address="local"))) == {(0, 1), (1, 2), (0, 7), (1, 8)}


def test_another_test_set_later_drops_more(fresh: Callable[..., DedupJob], job: DedupJob, tmp_path: Path) -> None:
    dedup(fresh())
    more = make_dataset(
        tmp_path / "more", [{"sha256": ["f" * 64], "image_embedding": unit_vectors(3, 1, DIM)}], dim=DIM
    )
    with pytest.raises(UserError, match="against"):
        dedup(fresh(against=[*job.against, more.url]))
    assert gone(dedup(fresh(against=[*job.against, more.url], overwrite=True))) == {(0, 1), (1, 2), (0, 7), (1, 8)}


def test_a_reference_of_another_model_is_refused(fresh: Callable[..., DedupJob], tmp_path: Path) -> None:
    columns = {"sha256": ["a" * 64], "image_embedding": unit_vectors(3, 1, DIM)}
    other = make_dataset(tmp_path / "other", [columns], dim=DIM, weights_sha256="1" * 64)
    with pytest.raises(InputError, match=r"--against .*other was made with .* name a dataset of the same weights"):
        dedup(fresh(against=[other.url]))
    assert gone(dedup(fresh(against=[other.url], near=False))) == set()  # files are files, whoever embeds them


def test_nothing_to_compare_is_refused(job: DedupJob) -> None:
    with pytest.raises(UserError, match="--only-against leaves nothing to find"):
        replace(job, against=()).check()
