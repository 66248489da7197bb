"""Filtering again when the dataset has grown: the subset is that of a run from nothing, and only what is new or has to
change is judged."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from clipmill.pipeline import FilterJob, FilterSummary, filter
from clipmill.pipeline.dataset.dataset import Dataset
from clipmill.pipeline.dataset.derived import begin
from clipmill.pipeline.dataset.narrow import NARROW
from clipmill.pipeline.dataset.output import Output
from clipmill.pipeline.dataset.source import PART, source_of
from clipmill.pipeline.dataset.subset import Subset
from clipmill.pipeline.filtering import judging, moving
from clipmill.pipeline.filtering.progress import COUNTS
from clipmill.pipeline.running import narrow_table
from fakes import files
from filter_kit import NAN, many
from made import unit_vectors

Parts = list[dict[str, Any]]


@pytest.fixture(autouse=True)
def in_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether or not another test's Ray runs: other processes would not see what is patched here."""
    monkeypatch.setattr("ray.is_initialized", lambda: False)


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a narrow table."""
    monkeypatch.setattr(narrow_table, "MANY_PARTS", 1)
    monkeypatch.setattr(narrow_table, "_LEAST", 30_000)


@pytest.fixture(params=["table", "parts"])
def either(request: pytest.FixtureRequest) -> None:
    """With a narrow table and without one."""
    if request.param == "table":
        request.getfixturevalue("table")


def spread(seed: int, rows: int = 60) -> dict[str, Any]:
    """A part with scores of its own range, so that a threshold lies in few parts."""
    scores = np.random.default_rng(seed).uniform(0.05 * seed, 0.05 * seed + 0.06, rows)
    return {"similarity": scores.astype(np.float32), "caption": [f"{seed} {row}" for row in range(rows)]}


def written(job: FilterJob) -> dict[str, tuple[int, int]]:
    """The subset's parts: when each was written."""
    return {name: at for name, at in files(job.out).items() if name.startswith("data/")}


def check(job: FilterJob) -> None:
    """The subset is that of a run from nothing, byte for byte."""
    fresh = replace(job, out=job.out + "-fresh")
    shutil.rmtree(fresh.out, ignore_errors=True)
    filter(fresh)
    mine, other = Subset.open(job.out), Subset.open(fresh.out)
    assert (mine.funnel, mine.parts, mine.stamps) == (other.funnel, other.parts, other.stamps)
    for part in mine.parts:
        assert Path(mine.url_of(part)).read_bytes() == Path(other.url_of(part)).read_bytes()


def grown(make: Callable[..., FilterJob], job: FilterJob, parts: Parts) -> tuple[FilterSummary, set[str]]:
    """Filter again with these parts; the files of the subset that were written."""
    before = written(job)
    make(parts)
    summary = filter(job)
    return summary, {name for name, at in written(job).items() if before.get(name) != at}


@pytest.mark.parametrize(
    "conditions",
    [
        {"where": ["row % 3 = 0"]},
        {"threshold": 0.25, "columns": ["caption"]},
        {"recipe": "laion2b", "by": "similarity"},
    ],
    ids=["where", "threshold", "recipe"],
)
def test_only_new_and_changed_parts_are_judged(
    conditions: dict[str, Any], make: Callable[..., FilterJob], table: None
) -> None:
    parts = [spread(number) for number in range(8)]
    job = replace(make(parts, models=[("", "ViT-B-32")]), **conditions)
    first = filter(job)
    assert (first.parts, first.parts_done_before) == (8, 0)
    grow = [*parts[:2], spread(6, 70), *parts[3:], spread(7)]
    make(grow, models=[("", "ViT-B-32")])
    before = written(job)
    summary = filter(job)
    assert (summary.parts, summary.parts_done_before) == (9, 7)
    unchanged = {name for name, at in written(job).items() if before.get(name) == at}
    assert len(unchanged) >= len(before) - 1
    check(job)


def test_a_threshold_that_moves_changes_the_parts_with_scores_that_it_passes(
    make: Callable[..., FilterJob], either: None
) -> None:
    parts = [spread(number) for number in range(10)]
    job = replace(make(parts), top_fraction=0.5)
    filter(job)
    summary, changed = grown(make, job, [*parts, spread(10, 20), spread(0, 1)])
    assert summary.parts_done_before > 6 and len(changed) < 4
    check(job)
    summary, changed = grown(make, job, [*parts, spread(10, 20), spread(0, 1), spread(1, 90), {}])  # and back
    assert summary.parts_done_before > 6 and len(changed) < 4
    check(job)


def scattered(seed: int, low: float = 0.0, high: float = 1.0) -> dict[str, Any]:
    """A part with scores of the whole range, so that a threshold lies in all parts."""
    random = np.random.default_rng(seed)
    return {
        "similarity": random.uniform(low, high, 60).astype(np.float32),
        "aesthetic": [None if row % 7 == 0 else NAN if row % 5 == 0 else row / 3 for row in range(60)],
        "sha256": [f"{seed + row:064x}" if row % 3 else None for row in range(60)],
        "image_embedding": unit_vectors(seed, 60),
    }


@pytest.mark.parametrize("breaks", [False, True], ids=["whole", "damaged"])
def test_a_threshold_that_moves_adds_and_removes_single_rows(
    breaks: bool, make: Callable[..., FilterJob], monkeypatch: pytest.MonkeyPatch, table: None
) -> None:
    """And nothing else is judged again. Damage to the narrow table does no harm."""
    monkeypatch.setattr(moving, "_PARTS", 3)
    parts, columns = [scattered(number) for number in range(8)], ["aesthetic:float64"]
    kept = {"columns": ["aesthetic", "image_embedding", "sha256"], "where": ["row % 4 > 0"]}
    job = replace(make(parts, columns=columns), top_fraction=0.4, **kept)
    filter(job)
    keep, judged = judging.KeepRows.__call__, list[str]()
    monkeypatch.setattr(judging.KeepRows, "__call__", lambda self, run: judged.extend(run.parts) or keep(self, run))
    for more in (scattered(8, 0.7), scattered(9, 0.0, 0.2)):  # the threshold rises, and falls
        parts.append(more)
        make(parts, columns=columns)
        judged.clear()
        with monkeypatch.context() as patch:
            if breaks:
                patch.setattr(judging, "with_narrow_table", then_broken)
            summary = filter(job)
        assert summary.parts_done_before < len(parts) - 4  # the others' rows changed
        assert breaks or judged == [Dataset.open(job.dataset).parts[-1]]
        check(job)


@pytest.mark.parametrize("by", [None, "similarity", "sure"], ids=["alone", "labelled", "by a label"])
@pytest.mark.parametrize("rises", [False, True], ids=["falls", "rises"])
def test_a_threshold_moves_past_rows_that_others_drop(
    rises: bool, by: str | None, make: Callable[..., FilterJob], tmp_path: Path, table: None
) -> None:
    """Of most parts nothing is kept, before or after; those in which nothing changes are not written again."""
    parts, columns = [scattered(number) for number in range(12)], ["aesthetic:float64"]
    conditions = ["row % 20 = 7", "shard NOT LIKE '%/00003.tar'"]
    if by:
        conditions.append("labels.label <> 'label 2'")
    job = replace(make(parts, columns=columns), top_fraction=0.4, where=conditions)
    if by:
        job = replace(job, labels=labels_of(job, tmp_path / "labels"), by=by, columns=["label"])
    filter(job)
    counts = [len(pq.read_table(Path(job.out) / name)) for name in written(job)]
    assert 2 < len(counts) < 11 and sum(counts) < 25
    before = written(job)
    make([*parts, scattered(12, 0.6) if rises else scattered(12, 0.0, 0.3)], columns=columns)
    if by:
        labels_of(job, tmp_path / "labels")
    summary = filter(job)
    assert summary.parts_done_before < 6  # scores of the others were passed
    assert sum(before.get(name) == at for name, at in written(job).items()) > len(before) // 3
    check(job)


def labels_of(job: FilterJob, folder: Path) -> str:
    """Labels of all rows that are there by now."""
    dataset, output = Dataset.open(job.dataset), Output.at(str(folder)).prepare()
    begin(output, "label", {"dataset": dataset.url, "fingerprint": dataset.settings.digest})
    for part in dataset.parts:
        own = dataset.read(part, ["key", "shard", "row", "error"])
        labels = own.append_column("label", pa.array([f"label {row % 3}" for row in range(len(own))]))
        labels = labels.append_column("sure", dataset.read(part, ["similarity"])["similarity"])
        with output.staged(f"data/{part}", replace=True) as path:
            pq.write_table(labels.replace_schema_metadata({PART: source_of(dataset, part, None)}), path)
    return output.url


def then_broken(*asked: Any) -> Dataset:
    """The narrow table is made, and all its files but the last are damaged."""
    dataset = narrow_table.with_narrow_table(*asked)
    for file in dataset.narrow[:-1]:
        path = Path(dataset.url) / NARROW / file.name
        content = path.read_bytes()
        footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
        path.write_bytes(content[:4] + b"\7" * (footer - 4) + content[footer:])
    return dataset


def test_a_subset_of_no_scores_gets_some(make: Callable[..., FilterJob], table: None) -> None:
    job = replace(make([{"similarity": [None] * 5}, {}]), top_fraction=0.5)
    assert filter(job).funnel.kept == 0
    grown(make, job, [{"similarity": [None] * 5}, {}, spread(1)])
    check(job)


@pytest.mark.parametrize(
    "conditions",
    [
        {"where": ["similarity > (SELECT avg(similarity) FROM pairs)"]},
        {"where": ["key NOT IN (SELECT key FROM 'MINE')"]},
        {"recipe": "image_based"},
    ],
    ids=["average", "file", "reference"],
)
def test_conditions_on_other_rows_judge_all_parts_again(
    conditions: dict[str, Any], make: Callable[..., FilterJob], tmp_path: Path, table: None
) -> None:
    pq.write_table(pq.read_table(make(many(), name="reference").dataset + "/data"), tmp_path / "mine.parquet")
    if "where" in conditions:
        conditions = {"where": [conditions["where"][0].replace("MINE", str(tmp_path / "mine.parquet"))]}
    else:
        conditions = {**conditions, "reference": str(tmp_path / "reference"), "cells": 2}
    parts = [{**spread(number), "image_embedding": unit_vectors(number, 60)} for number in range(4)]
    job = replace(make(parts[:3]), **conditions)
    filter(job)
    make(parts)
    assert filter(job).parts_done_before == 0
    check(job)


@pytest.mark.parametrize("harm", ["a part is gone", "no counts", "damaged counts", "other counts"])
def test_what_is_lost_of_a_subset_is_made_again(harm: str, make: Callable[..., FilterJob], table: None) -> None:
    parts = [spread(number) for number in range(6)]
    job = replace(make(parts[:5]), top_fraction=0.4)
    filter(job)
    counts = Path(job.out) / COUNTS
    if harm == "a part is gone":
        next(path for path in sorted((Path(job.out) / "data").iterdir())).unlink()
    elif harm == "no counts":
        counts.unlink()
    elif harm == "damaged counts":
        counts.write_bytes(counts.read_bytes()[:-30])
    else:
        shutil.copy(Path(job.dataset) / "data" / Subset.open(job.out).parts[0], counts)
    make(parts)
    filter(job)
    check(job)


def test_within_a_subset_that_stays_only_new_parts_are_judged(make: Callable[..., FilterJob], table: None) -> None:
    parts = [spread(number) for number in range(6)]
    outer = replace(make(parts[:5]), where=["row % 2 = 0"])
    filter(outer)
    inner = replace(outer, out=outer.out + "-inner", within=outer.out, where=["row % 3 = 0"])
    filter(inner)
    make(parts)
    assert filter(inner).parts_done_before == 5  # the new one has no rows in the outer subset
    check(inner)
    filter(outer)
    assert filter(inner).parts_done_before == 0
    check(inner)


def test_a_run_that_is_killed_goes_on_about_where_it_was(
    make: Callable[..., FilterJob], monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = [spread(number) for number in range(15)]
    job = replace(make(parts[:6]), where=["row % 2 = 0"])
    filter(job)
    make(parts)
    keep, calls = judging.KeepRows.__call__, []

    class Killed(Exception): ...

    def dies(self: Any, run: Any) -> Any:
        calls.append(run)
        if len(calls) == 8:
            raise Killed
        return keep(self, run)

    with monkeypatch.context() as patch:
        patch.setattr(judging, "_SAVED", 0.0)
        patch.setattr(judging.KeepRows, "__call__", dies)
        patch.setattr("os.cpu_count", lambda: 1)
        with pytest.raises(Killed):
            filter(job)
    assert filter(job).parts_done_before > 6 + 4
    check(job)
