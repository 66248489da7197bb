"""`dedup`: planted duplicates are found exactly, the best of each group stays, and a killed run goes on."""

from __future__ import annotations

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
import ray
from clipmill.pipeline.dataset.dataset import Dataset
from clipmill.pipeline.dataset.derived import begin
from clipmill.pipeline.dataset.output import Output
from clipmill.pipeline.dataset.subset import Funnel, Subset, begin_subset, finish_subset, write_subset_part
from clipmill.pipeline.deduplication import sorted_files
from clipmill.pipeline.deduplication.dedup import DedupSummary, dedup
from clipmill.pipeline.deduplication.near import ComparePiece
from clipmill.pipeline.errors import InputError, PlanMismatchError, UserError
from clipmill.pipeline.job import DedupJob
from clipmill.pipeline.running.stages import Stage
from made import make_dataset, unit_vectors
from s3 import Bucket
from side_kit import write_side

DIM = 16
ROWS = 60  # a part
Row = tuple[int, int]  # part, row


def planted(parts: int = 3) -> tuple[list[dict[str, Any]], list[set[Row]], list[set[Row]]]:
    """Columns of parts, the groups of exact copies in them, and the groups of exact and near duplicates together. Rows
    3, 13, … have failed; all else is apart."""
    count = parts * ROWS
    vectors = unit_vectors(11, count, DIM)
    sha256 = [f"{i:064x}" for i in range(count)]
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


@pytest.fixture(autouse=True)
def without_ray(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads, although other tests may have started a cluster."""
    if "cluster" not in request.fixturenames:
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
        monkeypatch.setattr(ray, "is_initialized", lambda: False)


@pytest.fixture
def job(dataset: Dataset, tmp_path: Path) -> DedupJob:
    return DedupJob(dataset.url, str(tmp_path / "subset"))


def groups_of(summary: DedupSummary) -> list[set[Row]]:
    found: dict[int, set[Row]] = {}
    for row in pq.read_table(f"{summary.out}/.clipmill/groups.parquet").to_pylist():
        found.setdefault(row["group"], set()).add((int(row["shard"][-9:-4]), row["row"]))
    return list(found.values())


def kept_of(summary: DedupSummary) -> set[Row]:
    tables = [pq.read_table(path) for path in sorted(Path(summary.out).glob("data/*.parquet"))]
    return {(int(row["shard"][-9:-4]), row["row"]) for table in tables for row in table.to_pylist()}


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
    monkeypatch.setattr(sorted_files, "fair", lambda total: 1000)  # bytes: a run for each part, and many pieces
    job = replace(job, cells=12)
    whole = dedup(replace(job, out=str(tmp_path / "whole")))
    compared: list[int] = []
    compare = ComparePiece.__call__

    def dies(self: ComparePiece, piece: Any) -> None:
        if len(compared) == 5:
            raise OSError("the disk is gone")
        compared.append(piece.number)
        compare(self, piece)

    monkeypatch.setattr(ComparePiece, "__call__", dies)
    with pytest.raises(OSError, match="gone"):
        dedup(job)
    with pytest.raises(InputError, match="not finished; run the same `clipmill dedup` again"):
        Subset.open(job.out)
    stages: list[Stage] = []
    done, compared = set(compared), []
    monkeypatch.setattr(
        ComparePiece, "__call__", lambda self, piece: (compared.append(piece.number), compare(self, piece))
    )
    resumed = dedup(job, stages.append)
    assert done and not done & set(compared)
    assert [stage.total for stage in stages if stage.name == "assigning to cells"] == [0]
    assert contents(resumed.out) == contents(whole.out)


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
