"""`dedup`: planted duplicates are found exactly, the best of each group stays, and a killed run goes on."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from clipmill.pipeline.dataset.dataset import Dataset
from clipmill.pipeline.dataset.derived import begin
from clipmill.pipeline.dataset.output import Output
from clipmill.pipeline.dataset.subset import Funnel, Subset, begin_subset, finish_subset, write_subset_part
from clipmill.pipeline.deduplication import sorted_files, stars
from clipmill.pipeline.deduplication.contents import FindCopies
from clipmill.pipeline.deduplication.dedup import DedupSummary, dedup
from clipmill.pipeline.deduplication.members import ChooseBest
from clipmill.pipeline.deduplication.near import ComparePiece
from clipmill.pipeline.deduplication.stars import Spread
from clipmill.pipeline.errors import InputError, PlanMismatchError, UserError
from clipmill.pipeline.job import DedupJob
from clipmill.pipeline.running.stages import Stage
from dedup_kit import Row, kept_of
from made import make_dataset, unit_vectors
from s3 import Bucket

pytestmark = pytest.mark.usefixtures("without_ray")

DIM = 16
ROWS = 60  # a part


def planted(parts: int = 3) -> tuple[list[dict[str, Any]], list[set[Row]], list[set[Row]]]:
    """Columns of parts, the groups of exact copies in them, and the groups of exact and near duplicates together. Rows
    3, 13, … have failed; all else is apart."""
    count = parts * ROWS
    vectors = unit_vectors(11, count, DIM)
    sha256 = [hashlib.sha256(bytes([i])).hexdigest() for i in range(count)]
    similarity = np.random.default_rng(2).random(count).astype(np.float32).round(2)
    free = [i for i in np.random.default_rng(5).permutation(count).tolist() if i % 10 != 3]
    exact, near = [], []
    for size in (2, 3, 5):  # copies of one file
        group = [free.pop() for _ in range(size)]
        for each in group:
            sha256[each], vectors[each] = sha256[group[0]], vectors[group[0]]
        exact.append(group)
        near.append(group)
    for size in (2, 4, 6):  # a chain, whose ends are further apart than two neighbours
        group = [free.pop() for _ in range(size)]
        for before, each in pairwise(group):
            vectors[each] = vectors[before] + 0.22 * unit_vectors(each, 1, DIM)[0]
            vectors[each] /= np.linalg.norm(vectors[each])
        near.append(group)
    bridge = [free.pop() for _ in range(3)]  # two copies, and one that is near to both
    sha256[bridge[1]], vectors[bridge[1]] = sha256[bridge[0]], vectors[bridge[0]]
    vectors[bridge[2]] = vectors[bridge[0]] + 0.1 * unit_vectors(1, 1, DIM)[0]
    exact.append(bridge[:2])
    near.append(bridge)
    error = [("decode: truncated JPEG" if i % 10 == 3 else None) for i in range(count)]
    vectors[[i % 10 == 3 for i in range(count)]] = np.nan
    columns = {
        "sha256": sha256, "image_embedding": vectors, "error": error, "similarity": similarity,
        "caption": [f"caption {i}" for i in range(count)], "text_embedding": unit_vectors(12, count, DIM),
    }  # fmt: skip
    cut = [{name: values[p * ROWS : (p + 1) * ROWS] for name, values in columns.items()} for p in range(parts)]
    return cut, [_places(group) for group in exact], [_places(group) for group in near]


def _places(group: Sequence[int]) -> set[Row]:
    return {divmod(each, ROWS) for each in group}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return make_dataset(tmp_path_factory.mktemp("planted") / "out", planted()[0], dim=DIM)


@pytest.fixture
def job(dataset: Dataset, tmp_path: Path) -> DedupJob:
    return DedupJob(dataset.url, str(tmp_path / "subset"))


def groups_of(summary: DedupSummary) -> list[set[Row]]:
    found: dict[int, set[Row]] = {}
    for row in pq.read_table(f"{summary.out}/.clipmill/groups.parquet").to_pylist():
        found.setdefault(row["group"], set()).add((int(row["shard"][-9:-4]), row["row"]))
    return list(found.values())


def best(group: set[Row], column: Callable[[Row], float]) -> Row:
    return min(group, key=lambda row: (-column(row), row))


def canonical(groups: list[set[Row]]) -> list[list[Row]]:
    return sorted(sorted(group) for group in groups)


def test_planted_groups_are_found_exactly_and_the_best_of_each_stays(dataset: Dataset, job: DedupJob) -> None:
    parts, exact, near = planted()
    summary = dedup(job)
    assert canonical(groups_of(summary)) == canonical(near)
    assert summary.groups == dict(Counter(map(len, near)))
    copies = sum(len(group) - 1 for group in exact)
    dropped = {"failed": 18, "exact duplicate": copies, "near duplicate": sum(len(g) - 1 for g in near) - copies}
    assert dict(summary.funnel.dropped) == dropped
    assert (summary.funnel.rows, summary.funnel.kept) == (180, 180 - sum(dropped.values()))

    stays = {best(group, lambda row: parts[row[0]]["similarity"][row[1]]) for group in near}
    goes = set().union(*near) - stays
    alive = {(p, r) for p in range(3) for r in range(ROWS) if parts[p]["error"][r] is None}
    assert kept_of(summary) == alive - goes
    marked = pq.read_table(f"{summary.out}/.clipmill/groups.parquet").filter(pa.compute.field("kept"))
    assert {(int(row["shard"][-9:-4]), row["row"]) for row in marked.to_pylist()} == stays
    Subset.open(summary.out).check_fits(dataset)


@pytest.mark.parametrize("cells", [1, 4, 40])
def test_many_cells_find_what_one_does_here_where_groups_are_tight(cells: int, job: DedupJob) -> None:
    found = dedup(replace(job, cells=cells, probes=3))
    assert canonical(groups_of(found)) == canonical(planted()[2])


def test_on_ray_the_subset_is_the_same(cluster: None, job: DedupJob, tmp_path: Path) -> None:
    here, there = dedup(replace(job, cells=3)), dedup(replace(job, cells=3, out=str(tmp_path / "b"), address="local"))
    assert contents(here.out) == contents(there.out)


def contents(out: str) -> dict[str, list[Any]]:
    tables = [*Path(out).glob("data/*.parquet"), Path(out) / ".clipmill/groups.parquet"]
    return {path.name: pq.read_table(path).to_pylist() for path in tables}


def test_only_exact_and_only_near(job: DedupJob, tmp_path: Path) -> None:
    _, exact, near = planted()
    only_exact = dedup(replace(job, near=False))
    assert canonical(groups_of(only_exact)) == canonical(exact)
    assert only_exact.funnel.dropped["near duplicate"] == 0
    only_near = dedup(replace(job, exact=False, out=str(tmp_path / "near")))
    assert canonical(groups_of(only_near)) == canonical(near)
    assert only_near.funnel.dropped["exact duplicate"] == 0


def test_only_rows_within_a_subset_count(dataset: Dataset, job: DedupJob, tmp_path: Path) -> None:
    output = Output.at(str(tmp_path / "first")).prepare()
    begin_subset(output, "filter", dataset, {})
    for part in dataset.parts[:2]:
        write_subset_part(output, part, dataset.read(part, ["key", "shard", "row", "image_offset", "image_size"])[:40])
    finish_subset(output, dataset, Funnel(180, {"--where": 100}, 80))
    summary = dedup(replace(job, within=output.url))
    inside = {(part, row) for part in range(2) for row in range(40)}
    shrunk = [group & inside for group in planted()[2]]
    assert canonical(groups_of(summary)) == canonical([group for group in shrunk if len(group) > 1])
    assert summary.funnel.rows == 80 and kept_of(summary) < inside


def test_again_there_is_nothing_to_do_and_nothing_is_left_behind(job: DedupJob) -> None:
    first = dedup(job)
    left = {path.name for path in (Path(first.out) / ".clipmill").iterdir() if path.is_file()}
    assert left == {"step.json", "subset.json", "groups.parquet"}
    before = {path: path.stat().st_mtime_ns for path in Path(first.out).rglob("*") if path.is_file()}
    again = dedup(job)
    assert again.done_before and not first.done_before
    assert (again.funnel, again.groups) == (first.funnel, first.groups)
    assert {p: p.stat().st_mtime_ns for p in Path(first.out).rglob("*") if p.is_file()} == before


def test_what_was_compared_before_a_crash_is_not_compared_again(
    job: DedupJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sorted_files, "_LEAST", 1000)  # bytes: a run for each part, and many pieces
    monkeypatch.setattr(sorted_files, "_AVERAGE", 0)
    job = replace(job, cells=12)
    whole = dedup(replace(job, out=str(tmp_path / "whole")))
    compared: list[str] = []
    compare = ComparePiece.__call__

    def dies(self: ComparePiece, piece: Any) -> None:
        if len(compared) == 5:
            raise OSError("the disk is gone")
        compared.append(piece.digest)
        compare(self, piece)

    monkeypatch.setattr(ComparePiece, "__call__", dies)
    with pytest.raises(OSError, match="gone"):
        dedup(job)
    with pytest.raises(InputError, match="not finished; run the same `clipmill dedup` again"):
        Subset.open(job.out)
    stages: list[Stage] = []
    done, compared = set(compared), []
    monkeypatch.setattr(
        ComparePiece, "__call__", lambda self, piece: (compared.append(piece.digest), compare(self, piece))
    )
    resumed = dedup(job, stages.append)
    assert done and not done & set(compared)
    assert [stage.total for stage in stages if stage.name == "assigning to cells"] == [0]
    assert contents(resumed.out) == contents(whole.out)


@pytest.mark.parametrize(("task", "most"), [(FindCopies, 5), (ComparePiece, 30), (Spread, 2), (ChooseBest, 1)])
def test_what_was_done_before_a_crash_fits_ranges_that_are_cut_otherwise(
    task: type, most: int, job: DedupJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As another version of clipmill may cut them."""
    monkeypatch.setattr(stars, "_AT_ONCE", 0)
    monkeypatch.setattr(stars, "_partition", lambda total: 40)
    monkeypatch.setattr(sorted_files, "_AVERAGE", 0)
    monkeypatch.setattr(sorted_files, "_LEAST", 100)
    job = replace(job, cells=12)
    whole = dedup(replace(job, out=str(tmp_path / "whole")))
    do, done = task.__call__, []

    def dies(self: Any, item: Any) -> None:
        if len(done) == most:
            raise OSError("the disk is gone")
        done.append(item)
        do(self, item)

    with monkeypatch.context() as patch:
        patch.setattr(task, "__call__", dies)
        with pytest.raises(OSError, match="gone"):
            dedup(job)
    monkeypatch.setattr(sorted_files, "_LEAST", 2000)
    resumed = dedup(job)
    assert canonical(groups_of(resumed)) == canonical(groups_of(whole))
    assert kept_of(resumed) == kept_of(whole) and resumed.funnel == whole.funnel


def test_a_dataset_that_has_grown_is_done_again(tmp_path: Path) -> None:
    parts = planted()[0]
    made = make_dataset(tmp_path / "in", parts, dim=DIM)
    last = tmp_path / "in/data" / made.parts[2]
    last.rename(tmp_path / "later")
    job = DedupJob(made.url, str(tmp_path / "out"))
    assert dedup(job).funnel.rows == 120
    (tmp_path / "later").rename(last)
    grown = dedup(job)
    assert not grown.done_before and grown.funnel.rows == 180
    assert canonical(groups_of(grown)) == canonical(planted()[2])


def test_on_object_storage_it_is_the_same(dataset: Dataset, job: DedupJob, bucket: Bucket) -> None:
    for path in Path(dataset.url).rglob("*"):
        if path.is_file():
            bucket.storage.put_file(str(path), bucket.url(f"in/{path.relative_to(dataset.url)}"))
    here = dedup(replace(job, cells=3))
    there = dedup(DedupJob(bucket.url("in"), bucket.url("out"), cells=3))
    assert (there.funnel, there.groups) == (here.funnel, here.groups)
    names = {name.removeprefix("out/") for name in bucket.objects() if name.startswith("out/")}
    ours = {str(path.relative_to(here.out)) for path in Path(here.out).rglob("*") if path.is_file()}
    assert names == ours
    table = pq.read_table(f"{bucket.name}/out/.clipmill/groups.parquet", filesystem=bucket.storage)
    assert table.to_pylist() == pq.read_table(f"{here.out}/.clipmill/groups.parquet").to_pylist()


def test_other_settings_or_another_dataset_into_the_same_folder_are_refused(job: DedupJob, tmp_path: Path) -> None:
    dedup(job)
    with pytest.raises(PlanMismatchError, match="keep by is 'row', not 'similarity'"):
        dedup(replace(job, keep_by="row"))
    other = make_dataset(tmp_path / "other", planted()[0], dim=DIM, weights_sha256="1" * 64)
    with pytest.raises(PlanMismatchError, match="fingerprint is "):
        dedup(replace(job, dataset=other.url))
    with pytest.raises(InputError, match="a subset of "):
        dedup(DedupJob(other.url, str(tmp_path / "x"), within=job.out))
    labels = Output.at(str(tmp_path / "labels")).prepare()
    begin(labels, "label", {})
    with pytest.raises(PlanMismatchError, match="is the output of `clipmill label`"):
        dedup(replace(job, out=labels.url))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"threshold": 1.5}, "--threshold 1.5: must be a cosine"),
        ({"exact": False, "near": False}, "leave nothing to find"),
        ({"cells": 0}, "--cells 0: must be at least 1"),
        ({"probes": 0}, "--probes 0: must be at least 1"),
        ({"keep_by": "beauty"}, "--keep-by beauty: no such column; there are key, uid, url, caption"),
        ({"keep_by": "image_embedding"}, "--keep-by image_embedding: no such column"),
    ],
)
def test_what_no_run_could_use_is_refused(wrong: dict[str, Any], said: str, job: DedupJob) -> None:
    with pytest.raises(UserError) as error:
        dedup(replace(job, **wrong))
    assert said in str(error.value)
