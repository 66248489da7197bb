"""A dataset that grows costs what is new, and its groups are those of a run over everything with the same cells."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import ray
from clipmill.pipeline.dataset.dataset import Dataset
from clipmill.pipeline.dataset.output import Output
from clipmill.pipeline.deduplication import centroids, sorted_files
from clipmill.pipeline.deduplication.dedup import DedupSummary, dedup
from clipmill.pipeline.deduplication.members import ReadMembers
from clipmill.pipeline.job import DedupJob
from clipmill.pipeline.running.stages import Stage
from made import make_dataset, unit_vectors

DIM, ROWS, PARTS = 16, 40, 4
CELLS = ".clipmill/cells"


def columns(parts: int = PARTS) -> list[dict[str, Any]]:
    """Parts with near rows and copies all over them: three of four rows are about a few directions."""
    count, random = parts * ROWS, np.random.default_rng(3)
    vectors = unit_vectors(1, count, DIM)
    vectors += 12 * unit_vectors(2, 30, DIM)[random.integers(0, 30, count)] * (random.random((count, 1)) < 0.75)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    sha256 = np.array([f"{i:064x}" for i in range(count)])
    for copy in random.choice(count, count // 8, replace=False):
        other = random.integers(0, count)
        sha256[copy], vectors[copy] = sha256[other], vectors[other]
    error = ["decode: bad" if i % 13 == 5 else None for i in range(count)]
    values: dict[str, Any] = {
        "sha256": sha256.tolist(), "image_embedding": vectors, "error": error,
        "similarity": random.random(count).round(2),
    }  # fmt: skip
    return [{name: value[p * ROWS : (p + 1) * ROWS] for name, value in values.items()} for p in range(parts)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return make_dataset(tmp_path_factory.mktemp("grown") / "in", columns(), dim=DIM)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several runs, pieces and cells; threads, although other tests may have started a cluster."""
    monkeypatch.setattr(sorted_files, "_LEAST", 4000)
    monkeypatch.setattr(sorted_files, "_AVERAGE", 1)
    monkeypatch.setattr(centroids, "_ONE_CELL", 50)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)


@pytest.fixture
def job(tmp_path: Path, whole: Dataset) -> Callable[..., DedupJob]:
    """A job over the first so many of the parts, or those named, in a dataset that changes from job to job."""
    shutil.copytree(whole.url, tmp_path / "in")

    def of(*numbers: int, **changes: Any) -> DedupJob:
        for number, part in enumerate(whole.parts):
            (tmp_path / "in/data" / part).unlink(missing_ok=True)
            if number in numbers:
                shutil.copy(Path(whole.url) / "data" / part, tmp_path / "in/data" / part)
        return DedupJob(str(tmp_path / "in"), str(tmp_path / "out"), cells=5, **changes)

    return of


def contents(out: str | Path) -> dict[str, Any]:
    tables = [*Path(out).glob("data/*.parquet"), Path(out) / ".clipmill/groups.parquet"]
    return {path.name: pq.read_table(path).to_pylist() for path in tables}


def anew(job: DedupJob, name: str, kept: bool = True) -> DedupSummary:
    """A run over everything, elsewhere; kept: with the centroids of the first run."""
    other = Path(job.out).parent / name
    if kept:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                centroids.TrainCells, "__call__", lambda self, _: _copied(job.out, self.candidates.output.url)
            )
            return dedup(replace(job, out=str(other)))
    return dedup(replace(job, out=str(other)))


def _copied(out: str, other: str) -> None:
    shutil.copy(Path(out) / CELLS / "centroids.npy", Path(other) / CELLS / "centroids.npy")


@pytest.mark.parametrize("first", [(0, 1), (0, 1, 2), (1, 3)])  # what comes later may lie in between
@pytest.mark.parametrize("near", [True, False])
def test_groups_are_those_of_a_run_over_everything(
    first: tuple[int, ...], near: bool, job: Callable[..., DedupJob]
) -> None:
    dedup(job(*first, near=near))
    grown = dedup(job(0, 1, 2, 3, near=near))
    full = anew(job(0, 1, 2, 3, near=near), "full", kept=near)
    assert contents(grown.out) == contents(full.out)
    assert (grown.funnel, grown.groups) == (full.funnel, full.groups)
    assert grown.funnel.dropped["exact duplicate"] > 0 and (grown.funnel.dropped["near duplicate"] > 0) == near


def test_only_what_is_new_is_read_and_written(job: Callable[..., DedupJob], monkeypatch: pytest.MonkeyPatch) -> None:
    dedup(job(0, 1, 2))
    out, stages = Path(job(0, 1, 2).out), []
    before = {path.name: path.stat().st_mtime_ns for path in (out / CELLS).iterdir()}
    parts = {path.name: path.stat().st_mtime_ns for path in (out / "data").iterdir()}
    rows = {name: pq.read_table(out / "data" / name).to_pylist() for name in parts}
    dedup(job(0, 1, 2, 3), stages.append)
    totals = {stage.name: stage.total for stage in stages if isinstance(stage, Stage)}
    assert totals["assigning to cells"] == totals["reading"] == 1 and "training cells" not in totals
    kept = {name: time for name, time in before.items() if not name.startswith("written-")}
    assert {name: (out / CELLS / name).stat().st_mtime_ns for name in kept} == kept
    same = {name for name in parts if pq.read_table(out / "data" / name).to_pylist() == rows[name]}
    assert {name for name in parts if (out / "data" / name).stat().st_mtime_ns == parts[name]} == same
    new = {path.name for path in (out / "data").iterdir()} - parts.keys()
    assert len(new) == 1


def test_a_part_that_was_made_anew_or_has_gone_leaves_nothing_behind(
    job: Callable[..., DedupJob], whole: Dataset, tmp_path: Path
) -> None:
    dedup(job(0, 1, 2, 3))
    fewer = job(0, 2, 3)
    assert contents(dedup(fewer).out) == contents(anew(fewer, "fewer", kept=False).out)
    changed = job(0, 2, 3)
    path = tmp_path / "in/data" / whole.parts[2]
    table = pq.read_table(path)
    pq.write_table(table.slice(0, 30).replace_schema_metadata(table.schema.metadata), path)
    assert contents(dedup(changed).out) == contents(anew(changed, "changed", kept=False).out)


def test_without_the_cells_that_were_kept_it_is_the_same(job: Callable[..., DedupJob]) -> None:
    dedup(job(0, 1))
    shutil.rmtree(Path(job().out) / CELLS)
    every = job(0, 1, 2, 3)
    assert contents(dedup(every).out) == contents(anew(every, "anew", kept=False).out)


def test_what_a_crash_left_is_not_taken_for_that_of_other_numbers_of_parts(
    job: Callable[..., DedupJob], monkeypatch: pytest.MonkeyPatch
) -> None:
    dedup(job(1, 2, 3))
    every = job(0, 1, 2, 3)  # the last number goes to the first part

    def dies(*_: Any) -> None:
        raise OSError("the disk is gone")

    with monkeypatch.context() as patch:
        patch.setattr(ReadMembers, "__call__", dies)
        with pytest.raises(OSError, match="gone"):
            dedup(every)
    shutil.rmtree(Path(every.out) / CELLS)
    assert contents(dedup(every).out) == contents(anew(every, "anew", kept=False).out)


def test_other_settings_make_other_cells(job: Callable[..., DedupJob]) -> None:
    every = job(0, 1, 2, 3)
    dedup(every)
    strict = replace(every, threshold=0.99, overwrite=True)
    assert contents(dedup(strict).out) == contents(anew(strict, "strict", kept=False).out)


def test_cells_that_a_dataset_has_outgrown_are_made_anew(job: Callable[..., DedupJob]) -> None:
    """Unless their number was given: five times as many rows in a cell are 25 times as much to compare."""
    small = replace(job(0), cells=None)
    dedup(small)
    centroids = Path(small.out) / CELLS / "centroids.npy"
    assert len(np.load(centroids)) == 1
    dedup(replace(job(0, 1, 2, 3), cells=None))
    assert len(np.load(centroids)) == 1  # not yet
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("clipmill.pipeline.deduplication.state._OUTGROWN", 3)
        (centroids.parent.parent / "subset.json").unlink()
        dedup(replace(job(0, 1, 2, 3), cells=None))
    assert len(np.load(centroids)) > 1


@pytest.mark.parametrize("left", ["nothing", "axes"])
def test_cells_of_a_version_without_sketches_grow_as_they_did(left: str, job: Callable[..., DedupJob]) -> None:
    dedup(job(0, 1))
    kept = Path(job().out) / CELLS
    for path in (*kept.glob("sketches-*"), *([kept / "axes.npz"] if left == "nothing" else [])):
        path.unlink()
    grown = dedup(job(0, 1, 2, 3))
    assert contents(grown.out) == contents(anew(job(0, 1, 2, 3), "full").out)
    assert any(kept.glob("sketches-*")) == (left == "axes")


def test_a_run_has_its_sketches_before_it_counts_as_done(
    job: Callable[..., DedupJob], monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    write = Output.write
    monkeypatch.setattr(
        Output, "write", lambda self, name, content: (written.append(name), write(self, name, content))[1]
    )
    dedup(job(0, 1))
    for number in range(2):
        names = [f"{CELLS}/{kind}-{number:06d}.npz" for kind in ("sketches", "vectors")]
        assert written.index(names[0]) < written.index(names[1])
    assert written.index(f"{CELLS}/axes.npz") < written.index(f"{CELLS}/centroids.npy")


def test_of_earlier_rows_little_more_than_their_sketches_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One row of a hundred is new, a few of these are near earlier ones. Counted in requests and bytes."""
    monkeypatch.setattr(sorted_files, "_LEAST", 1 << 18)
    monkeypatch.setattr("clipmill.pipeline.deduplication.screening._GAP", 1 << 12)
    vectors = unit_vectors(1, 3030, 256)
    vectors[3000:3005] = vectors[100:600:100] + 0.1 * unit_vectors(2, 5, 256)
    parts = [{"image_embedding": some} for some in np.split(vectors, [1000, 2000, 3000])]
    last = Path(make_dataset(tmp_path / "in", parts, dim=256).url) / "data"
    asked: list[tuple[str, int]] = []
    read = Output.read_range
    monkeypatch.setattr(
        Output,
        "read_range",
        lambda self, name, start, stop: (asked.append((name, stop - start)), read(self, name, start, stop))[1],
    )
    path = max(last.iterdir())
    path.rename(tmp_path / "later")
    job = DedupJob(str(tmp_path / "in"), str(tmp_path / "out"), cells=4)
    dedup(job)
    first = [size for name, size in asked if "vectors" in name or "sketches" in name]
    asked.clear()
    (tmp_path / "later").rename(path)
    assert dedup(job).funnel.dropped["near duplicate"] == 5
    more = {kind: [size for name, size in asked if kind in name] for kind in ("vectors", "sketches")}
    assert sum(more["vectors"]) < 0.05 * sum(first) and sum(more["sketches"]) < 0.15 * sum(first)
    assert sum(map(len, more.values())) < 40


class Killed(BaseException):
    """As a kill: nothing may catch it."""


def test_killed_at_any_moment_and_run_again_it_is_the_undisturbed_result(
    job: Callable[..., DedupJob], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before a commit drawn at random, again and again: over some parts, over more, and when one has gone."""
    left = [0]

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            return function(*arguments, **options)

        return call

    for name in ("_write", "delete", "staged"):
        monkeypatch.setattr(Output, name, counted(getattr(Output, name)))
    random, deaths = np.random.default_rng(0), []
    for numbers in ((0, 1, 2), (0, 1, 2, 3), (1, 2, 3)):
        deaths.append(0)
        while True:
            left[0] = int(random.integers(6, 30))
            try:
                dedup(job(*numbers))
                break
            except Killed:
                deaths[-1] += 1
        left[0] = 10**9
        undisturbed = anew(job(*numbers), f"undisturbed {numbers}")
        assert contents(job().out) == contents(undisturbed.out)
    assert sum(deaths) >= 10 and min(deaths) > 0
