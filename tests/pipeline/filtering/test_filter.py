"""Filtering: exactly the rows for which the conditions hold, in order, each drop counted once; in SQL, by the best
share, with labels, within a subset; here and on Ray."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from clipmill.pipeline import DedupJob, FilterJob, FilterSummary, dedup, filter
from clipmill.pipeline.dataset.dataset import Dataset
from clipmill.pipeline.dataset.subset import IDENTITY, Funnel, Subset
from clipmill.pipeline.errors import InputError
from clipmill.pipeline.filtering import filter as filtering
from clipmill.pipeline.filtering import runs
from clipmill.pipeline.filtering.runs import groups_of
from clipmill.pipeline.running.stages import Stage
from fakes import files
from filter_kit import NAN, many


def rows_of(job: FilterJob) -> list[dict[str, Any]]:
    subset = Subset.open(job.out)
    return [row for part in subset.parts for row in pq.read_table(Path(job.out) / "data" / part).to_pylist()]


def places(job: FilterJob) -> list[tuple[str, int]]:
    return [(row["shard"], row["row"]) for row in rows_of(job)]


def table(job: FilterJob) -> pa.Table:
    return pa.Table.from_batches(Dataset.open(job.dataset).batches(["shard", "row", "similarity", "width", "error"]))


def columns(job: FilterJob) -> tuple[list[tuple[str, int]], npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Where each row is, its score (NaN where it has none), and whether it was embedded."""
    found = table(job)
    scores = np.array([NAN if score is None else score for score in found["similarity"].to_pylist()], np.float32)
    where = list(zip(found["shard"].to_pylist(), found["row"].to_pylist(), strict=True))
    return where, scores, np.array([error is None for error in found["error"].to_pylist()])


def in_order(summary: FilterSummary) -> list[tuple[str, int]]:
    assert summary.funnel.rows == sum(summary.funnel.dropped.values()) + summary.funnel.kept
    return list(summary.funnel.dropped.items())


@pytest.mark.parametrize("share", [0.3, 0.001, 0.85, 1.0, 0.29, 1 / 3])
def test_the_top_fraction_is_that_of_a_full_sort_with_ties(share: float, make: Any) -> None:
    """As DataComp has it: the score at int(n * share) of the descending order, and all that is not below it."""
    job = replace(make(), top_fraction=share)
    summary = filter(job)
    where, scores, _ = columns(job)
    descending = np.sort(scores[~np.isnan(scores)])[::-1]
    least = descending[min(int(len(descending) * share), len(descending) - 1)]
    assert places(job) == [place for place, score in zip(where, scores, strict=True) if score >= least]
    assert summary.funnel.kept >= int(len(descending) * share)
    reasons = [reason for reason, _ in in_order(summary)]
    assert reasons == [
        "failed to embed",
        "no similarity",
        f"similarity not in the top {100 * share:.6g}%, below {least:.6g}",
    ]


def test_each_row_goes_for_the_first_reason_that_holds(make: Any) -> None:
    job = replace(make(), where=["width >= 200", "caption NOT LIKE '%7%'"], threshold=0.25)
    found = in_order(filter(job))
    rows = table(job).to_pylist()
    alive, expected = rows, []
    for reason, holds in [
        ("failed to embed", lambda row: row["error"] is None),
        ("not width >= 200", lambda row: row["width"] >= 200),
        ("not caption NOT LIKE '%7%'", lambda row: "7" not in str(row["row"])),
        ("no similarity", lambda row: row["similarity"] is not None and row["similarity"] == row["similarity"]),
        ("similarity below 0.25", lambda row: row["similarity"] >= 0.25),
    ]:
        left = [row for row in alive if holds(row)]
        expected.append((reason, len(alive) - len(left)))
        alive = left
    assert found == expected
    assert places(job) == [(row["shard"], row["row"]) for row in alive]


def test_a_subset_has_what_is_asked_for_as_the_dataset_has_it(make: Any) -> None:
    job = replace(make(), where=["row % 2 = 1"], columns=["caption", "width", "image_embedding", "caption", "key"])
    filter(job)
    dataset, subset = Dataset.open(job.dataset), Subset.open(job.out)
    for part in subset.parts:
        kept = pq.read_table(Path(job.out) / "data" / part)
        assert kept.column_names == [*IDENTITY, "caption", "width", "image_embedding"]
        whole = dataset.read(part, kept.column_names)
        assert kept.equals(whole.filter(pc.is_in(whole["row"], value_set=kept["row"].combine_chunks())))


def test_one_query_over_everything_agrees_and_so_does_ray(make: Any, cluster: None) -> None:
    job = replace(make(), where=["width > 150"], top_fraction=0.3)
    here = filter(job)
    there = filter(replace(job, out=job.out + "-ray", address="local"))
    assert there.funnel == here.funnel
    assert places(replace(job, out=job.out + "-ray")) == places(job)
    query = """
        WITH scored AS (SELECT * FROM read_parquet(?) WHERE similarity IS NOT NULL AND NOT isnan(similarity)),
        edge AS (SELECT similarity FROM scored ORDER BY similarity DESC
                 LIMIT 1 OFFSET (SELECT floor(0.3 * count(*))::BIGINT FROM scored))
        SELECT shard, row FROM scored WHERE error IS NULL AND width > 150 AND similarity >= (FROM edge)
        ORDER BY shard, row
    """
    with duckdb.connect() as connection:
        assert connection.execute(query, [f"{job.dataset}/data/*.parquet"]).fetchall() == places(job)


def test_parts_worked_through_together_are_told_apart(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    job = replace(make(), top_fraction=0.3)
    filter(job)
    monkeypatch.setattr(runs, "groups_of", lambda parts: [slice(0, 4), slice(4, parts)])
    together = replace(job, out=job.out + "2")
    stages: list[Stage] = []
    filter(together, stages.append)
    assert places(together) == places(job)
    assert [stage.done for stage in stages if stage.name == "filtering"] in ([0, 4, 6], [0, 2, 6])


@pytest.mark.parametrize("parts", [1, 5, 64, 65, 1000, 3001])
def test_every_part_is_in_one_group_and_workers_have_enough_of_them(parts: int) -> None:
    numbers = range(parts)
    groups = [numbers[at] for at in groups_of(parts)]
    assert [part for group in groups for part in group] == list(numbers)
    assert len(groups) >= min(parts, 32) and max(map(len, groups)) <= 16


def test_conditions_may_ask_the_whole_dataset(make: Any) -> None:
    parts: list[dict[str, Any]] = [{"similarity": [0.1, 0.2, 0.3]}, {"similarity": [0.6, 0.7, 0.8]}]
    job = replace(make(parts), where=["similarity > (SELECT median(p.similarity) FROM pairs AS p)"])
    filter(job)
    assert [row for _, row in places(job)] == [0, 1, 2]


def test_a_condition_with_a_comment_or_a_list_of_ones_own(make: Any, tmp_path: Path) -> None:
    pq.write_table(pa.table({"key": ["000000001", "000010002"]}), tmp_path / "mine.parquet")
    mine = f"key IN (SELECT key FROM '{tmp_path / 'mine.parquet'}') -- of my own"
    job = replace(make([{"width": [1, 2, 3]}, {"width": [1, 2, 3]}]), where=[mine, "width > 0"])
    filter(job)
    assert [row["key"] for row in rows_of(job)] == ["000000001", "000010002"]


def test_failed_rows_stay_out_unless_asked_for(make: Any) -> None:
    parts = [{"error": [None, "decode: no image", None]}]
    job = make(parts)
    assert filter(job).funnel.dropped == {"failed to embed": 1}
    job = replace(job, out=job.out + "2", failed=True, where=["error IS NOT NULL"])
    assert filter(job).funnel.kept == 1


def test_a_subset_within_a_subset_counts_its_rows_and_its_scores_alone(make: Any, tmp_path: Path) -> None:
    parts = [{"similarity": [0.9, 0.8, 0.1, 0.2]}, {"similarity": [0.7, 0.3]}, {"similarity": [0.95]}]
    job = replace(make(parts), where=["similarity < 0.75"])
    filter(job)
    inner = replace(job, where=(), top_fraction=0.5, within=job.out, out=str(tmp_path / "inner"))
    summary = filter(inner)
    assert (summary.funnel.rows, summary.funnel.kept) == (4, 3)  # of .7 .3 .2 .1, down to the third
    assert [row for _, row in places(inner)] == [3, 0, 1]


def test_done_before_there_is_nothing_to_do_until_the_dataset_grows(make: Any) -> None:
    job = replace(make(), top_fraction=0.3)
    first = filter(job)
    before = files(job.out)
    stages: list[Stage] = []
    again = filter(job, stages.append)
    assert again.done_before and not first.done_before and again.funnel == first.funnel
    assert files(job.out) == before and stages == []
    grown = replace(make([*many(), {"similarity": [0.99] * 300}]), top_fraction=0.3)
    assert filter(grown).funnel.rows == first.funnel.rows + 300
    assert {shard for shard, _ in places(grown)} == {"/made/00006.tar"}  # a higher bar: parts may become empty


def test_killed_in_between_it_is_made_whole_by_the_next_run(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    job = replace(make(), top_fraction=0.3)
    whole = filter(job)
    expected = places(job)

    class Killed(Exception): ...

    def finish(*_: object) -> None:
        raise Killed

    broken = replace(job, out=job.out + "2")
    with monkeypatch.context() as patch:
        patch.setattr(filtering, "finish_subset", finish)
        with pytest.raises(Killed):
            filter(broken)
    with pytest.raises(InputError, match="not finished; run the same `clipmill filter` again"):
        Subset.open(broken.out)
    assert filter(broken).funnel == whole.funnel
    assert places(broken) == expected


@pytest.mark.parametrize(
    "source", ["pairs", "main.pairs", '"pairs"', "range(1) r, pairs p", "(FROM pairs)", "/* all of */pairs"]
)
def test_a_subquery_sees_all_rows_however_it_is_spelt(make: Any, source: str) -> None:
    parts = [{"similarity": [0.1] * 9}, {"similarity": [0.2, 0.4]}, {"similarity": [0.9, 0.5]}]
    job = replace(make(parts), where=[f"similarity > (SELECT avg(similarity) FROM {source})"])
    assert filter(job).funnel.kept == 3  # of each part's own average, two would be


@pytest.mark.parametrize("name", ["emb[1]", "a?b", "a*b", "source=web", "error=none/emb", "row=3", "shard=0"])
def test_a_folder_is_read_by_its_very_name(make: Any, name: str) -> None:
    """Not as a pattern that others match, and not as a column."""
    for other in ("emb1", "axb"):
        make([{"similarity": [0.9] * 7}], name=other)
    rows = {"similarity": [0.1, 0.2, 0.3], "source": ["x", "y", "z"]}
    job = replace(make([rows], name=name, columns=["source"]), where=["similarity > 0.15 AND source <> 'z'"])
    assert filter(job).funnel.kept == 1
    nested = FilterJob(job.dataset, f"{job.out}/{name}/nested", where=["source = 'y'"], within=job.out)
    assert filter(nested).funnel == Funnel(1, {"failed to embed": 0, "not source = 'y'": 0}, 1)
    assert dedup(DedupJob(job.dataset, f"{job.out}/{name}/unique", within=nested.out, near=False)).funnel.kept == 1


@pytest.mark.parametrize("parts", [[{}], [{"error": ["decode: no image"] * 3}, {}]], ids=["empty", "only failures"])
def test_a_dataset_of_nothing_or_of_failures_alone_gives_an_empty_subset(parts: Any, make: Any) -> None:
    job = replace(make(parts), where=["width > 10"], top_fraction=0.3, recipe="basic")
    summary = filter(job)
    assert (summary.funnel.rows, summary.funnel.kept) == (3 if len(parts) > 1 else 0, 0)
    assert summary.funnel.dropped["failed to embed"] == summary.funnel.rows
    assert Subset.open(job.out).parts == ()


def test_images_alone_have_no_similarity_but_other_columns(make: Any) -> None:
    job = make(many(), embeds="images")
    with pytest.raises(InputError, match="has embeddings of images alone, and so no similarity; name another column"):
        filter(replace(job, top_fraction=0.5))
    summary = filter(replace(job, top_fraction=0.5, by="width"))
    assert summary.funnel.kept > 0


def test_nan_is_no_score_even_where_the_files_statistics_know_of_none(make: Any) -> None:
    """Parquet's lowest and highest values leave NaN out, and DuckDB believes them."""
    job = make([{"similarity": [0.4, NAN, 0.3, 1e-05, 0.7]}])
    assert [row for _, row in _kept(replace(job, threshold=0.3))] == [0, 2, 4]
    assert [row for _, row in _kept(replace(job, threshold=0.7, out=job.out + "2"))] == [4]
    assert [row for _, row in _kept(replace(job, threshold=1e-05, out=job.out + "3"))] == [0, 2, 3, 4]
    assert [row for _, row in _kept(replace(job, top_fraction=1.0, out=job.out + "4"))] == [0, 2, 3, 4]


def _kept(job: FilterJob) -> list[tuple[str, int]]:
    filter(job)
    return places(job)


def test_whole_numbers_are_scores_too(make: Any) -> None:
    job = replace(make([{"width": [3, 1, 2]}, {"width": [2, 5]}]), top_fraction=0.4, by="width")
    assert [row for _, row in _kept(job)] == [0, 2, 0, 1]  # 5 3 2 2 1: the third, and what ties with it


def test_a_threshold_that_moves_on_ray_comes_to_the_same(
    make: Any, cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clipmill.pipeline.running.narrow_table.MANY_PARTS", 1)
    scores = np.random.default_rng(0).uniform(0, 1, (7, 40)).astype(np.float32)
    parts = [{"similarity": scores[number]} for number in range(5)]
    job = replace(make(parts), top_fraction=0.3, where=["row % 4 > 0"], address="local")
    filter(job)
    for more in (0.5 * scores[5], 1.0 - 0.2 * scores[6]):  # the threshold falls, and rises
        parts.append({"similarity": more})
        make(parts)
        summary, fresh = filter(job), replace(job, out=f"{job.out}-{len(parts)}")
        assert summary.parts_done_before < len(parts) - 2  # scores of others are passed
        assert filter(fresh).funnel == summary.funnel
        assert places(fresh) == places(job)


def test_torch_is_not_loaded_for_a_filter_without_a_reference(make: Any) -> None:
    """It takes a second."""
    job = replace(make(), top_fraction=0.3)
    script = (
        "import sys; from clipmill.pipeline import FilterJob, filter; "
        f"filter(FilterJob({job.dataset!r}, {job.out!r}, top_fraction=0.3)); print('torch' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.split()[-1] == "False"
