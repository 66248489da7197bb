"""Filtering over the narrow table: the same subset as over the parts, whatever the conditions, and whatever becomes of
the table's files."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest
from clipmill.pipeline import FilterJob, filter
from clipmill.pipeline.dataset.dataset import Dataset
from clipmill.pipeline.dataset.narrow import NARROW, narrowed
from clipmill.pipeline.dataset.subset import Funnel, Subset
from clipmill.pipeline.errors import UserError
from clipmill.pipeline.filtering import judging, kth, share
from clipmill.pipeline.filtering.needs import Needs, needs_of
from clipmill.pipeline.running import narrow_table
from filter_kit import NAN, many
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made import make_dataset
from narrow_kit import garble, small_tables


@pytest.fixture(autouse=True)
def in_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether or not another test's Ray runs: other processes would not see what is patched here."""
    monkeypatch.setattr("ray.is_initialized", lambda: False)


@pytest.fixture
def with_table(monkeypatch: pytest.MonkeyPatch) -> None:
    small_tables(monkeypatch)
    monkeypatch.setattr("clipmill.pipeline.filtering.runs._LEAST", 150)


def result(job: FilterJob) -> tuple[Funnel, dict[str, Any]]:
    """The funnel, and the subset's files."""
    subset = Subset.open(job.out)
    return subset.funnel, {part: pq.read_table(Path(job.out) / "data" / part) for part in subset.parts}


JOBS = {
    "share": {"top_fraction": 0.3},
    "conditions": {"where": ["width >= 200", "caption NOT LIKE '%7%'"], "threshold": 0.25},
    "columns": {"where": ["row % 3 = 1"], "columns": ["sha256", "width", "image_embedding", "caption"]},
    "embeddings": {"where": ["image_embedding[1] > 0"], "top_fraction": 0.5},
    "stars": {"where": ["hash(pairs) % 2 = 0"]},
    "everything": {},
    "failed": {"failed": True, "where": ["similarity IS NULL"]},
    "recipe": {"recipe": "clip_score", "top_fraction": 0.4},
    "other rows": {"where": ["similarity > (SELECT avg(p.similarity) FROM pairs p WHERE p.width > 150)"]},
    "nothing": {"where": ["false"]},
    "whole numbers": {"by": "width", "top_fraction": 0.2},
}


@pytest.mark.parametrize("name", JOBS)
def test_the_subset_is_that_of_the_parts(name: str, make: Callable[..., FilterJob], with_table: None) -> None:
    parts = many(900, 9)
    for part in parts[:-1]:
        part["sha256"] = [f"{row:064x}" if row % 5 else None for row in range(len(part["caption"]))]
    job = replace(make(parts), **JOBS[name])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(narrow_table, "MANY_PARTS", 10**9)
        parts_read = replace(job, out=job.out + "-of-parts")
        filter(parts_read)
    filter(job)
    dataset = Dataset.open(job.dataset)
    if needs_of(JOBS[name].get("where", ()), narrowed(dataset).schema.names) == Needs(False, False):
        assert len(narrowed(dataset).narrow) > 1
    (funnel, tables), (expected, of_parts) = result(job), result(parts_read)
    assert funnel == expected and tables.keys() == of_parts.keys()
    for part, table in tables.items():
        assert table.equals(of_parts[part]) and table.schema == of_parts[part].schema


def test_within_a_subset_and_again_within_that(make: Callable[..., FilterJob], with_table: None) -> None:
    job = replace(make(many(900, 9)), where=["width > 150"])
    filter(job)
    inner = replace(job, out=job.out + "-inner", within=job.out, where=["row % 2 = 0"], top_fraction=0.5)
    filter(inner)
    with duckdb.connect() as connection:
        query = """
            WITH outer_rows AS (FROM read_parquet(?) WHERE error IS NULL AND width > 150),
            scored AS (FROM outer_rows WHERE similarity IS NOT NULL AND NOT isnan(similarity)),
            edge AS (SELECT similarity FROM scored ORDER BY 1 DESC LIMIT 1
                     OFFSET (SELECT (count(*) // 2) FROM scored))
            SELECT count(*) FROM scored WHERE row % 2 = 0 AND similarity >= (FROM edge)
        """
        assert connection.execute(query, [f"{job.dataset}/data/*.parquet"]).fetchall() == [(result(inner)[0].kept,)]


def test_only_the_rows_near_the_threshold_are_ranked(
    make: Callable[..., FilterJob], with_table: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first pass is in the histograms."""
    job = replace(make(many(900, 9)), top_fraction=0.3)
    digits: list[int] = []
    count = share.CountScores.__call__

    def counted(self: Any, run: Any) -> Any:
        digits.append(self.digit)
        return count(self, run)

    monkeypatch.setattr(share.CountScores, "__call__", counted)
    monkeypatch.setattr(kth, "_FEW", 0)
    filter(job)
    assert set(digits) == {1, 2, 3}


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    scores=st.lists(
        st.lists(st.sampled_from([None, NAN, 0.0, -0.0, 1e-30, -0.25, float("inf"), -float("inf")]) | st.floats(-1, 1)),
        min_size=1,
        max_size=4,
    ),
    share=st.floats(0.01, 1),
    few=st.sampled_from([0, 3, 1 << 22]),
)
def test_any_scores_are_ranked_as_by_sorting(
    scores: list[list[float | None]], share: float, few: int, tmp_path: Path, with_table: None
) -> None:
    dataset = make_dataset(tmp_path / uuid.uuid4().hex, [{"score": part} for part in scores], columns=["score:float64"])
    numbers = sorted((x for part in scores for x in part if x is not None and x == x), reverse=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kth, "_FEW", few)
        job = FilterJob(dataset.url, str(tmp_path / "some"), top_fraction=share, by="score", overwrite=True)
        kept = filter(job).funnel.kept
    least = numbers[min(int(len(numbers) * share), len(numbers) - 1)] if numbers else float("inf")
    assert kept == sum(number >= least for number in numbers)
    assert sum(len(file.parts) for file in narrowed(dataset).narrow) == len(scores)


@pytest.mark.parametrize("how", ["garbled", "gone"])
def test_a_file_that_breaks_while_it_is_read_is_made_again(
    how: str, make: Callable[..., FilterJob], with_table: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = replace(make(many(900, 9)), top_fraction=0.3, where=["width > 120"])
    filter(job)
    (folder, expected), made = (Path(job.dataset) / NARROW, result(job)), narrow_table.with_narrow_table

    def then_breaks(*asked: Any) -> Dataset:
        dataset = made(*asked)
        name = garble(job.dataset)
        if how == "gone":
            (folder / name).unlink()
        return dataset

    before = {path.name for path in folder.iterdir()}
    monkeypatch.setattr(judging, "with_narrow_table", then_breaks)
    again = replace(job, out=job.out + "2")
    filter(again)
    assert result(again)[0] == expected[0] and result(again)[1].keys() == expected[1].keys()
    assert {path.name for path in folder.iterdir()} < before
    monkeypatch.setattr(judging, "with_narrow_table", made)
    filter(replace(job, out=job.out + "3"))
    assert {path.name for path in folder.iterdir()} == before


def test_what_is_wrong_with_a_condition_is_told_by_part(make: Callable[..., FilterJob], with_table: None) -> None:
    job = replace(make(many(900, 9)), where=["(CASE WHEN row < 104 THEN '1' ELSE caption END)::INTEGER > 0"])
    with pytest.raises(UserError, match=r"\.parquet: a condition fails: .*'number 104'"):
        filter(job)
    assert len(list((Path(job.dataset) / NARROW).iterdir())) > 1  # it was not the table's fault


@pytest.mark.parametrize(
    ("condition", "embeddings", "rows"),
    [
        ("similarity > 0.3 AND width * height > 10 -- big", False, False),
        ("pairs.Caption IS NULL", False, False),
        ("labels.label = 'x'", False, False),
        ("image_embedding[1] > 0", True, False),
        ("hash(pairs) > 1", True, False),
        ("COLUMNS('sim.*') > 0", True, False),
        ("similarity > (SELECT avg(similarity) FROM pairs)", False, True),
        ("row IN (SELECT row FROM pairs NATURAL JOIN pairs p)", True, True),
        ("EXISTS (SELECT 1 FROM pairs p JOIN pairs q USING (text_embedding))", True, True),
        ("(FROM pairs LIMIT 1) IS NULL", True, True),
        ("key IN (SELECT key FROM 'mine.parquet')", False, True),
        ("no condition at all", True, True),
    ],
)
def test_what_conditions_look_at_is_known(condition: str, embeddings: bool, rows: bool) -> None:
    columns = ["key", "row", "caption", "similarity", "width", "height", "label"]
    assert needs_of(["true", condition], columns) == Needs(embeddings, rows)


def test_numbers_of_kept_rows_are_those_of_numpy(make: Callable[..., FilterJob], with_table: None) -> None:
    job = replace(make(many(900, 9)), where=["width >= 300"])
    summary = filter(job)
    widths = np.concatenate([part["width"] for part in many(900, 9)[:-1]])
    failed = np.array([error is not None for part in many(900, 9)[:-1] for error in part["error"]])
    assert summary.funnel.kept == int(((widths >= 300) & ~failed).sum())
