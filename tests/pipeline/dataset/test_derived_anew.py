"""What is made of a subset or of labels is made again when these are others, and refuses them where they are stale."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import lance
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from clipmill.pipeline import (
    DedupJob,
    ExportJob,
    FilterJob,
    ReportJob,
    dedup,
    export,
    filter,
    report,
)
from clipmill.pipeline.dataset.dataset import Dataset
from clipmill.pipeline.dataset.derived import begin
from clipmill.pipeline.dataset.output import Output
from clipmill.pipeline.dataset.source import PART, source_of
from clipmill.pipeline.dataset.subset import FUNNEL, Subset
from clipmill.pipeline.errors import InputError
from made import make_dataset, unit_vectors


def part(seed: int, rows: int = 10) -> dict[str, Any]:
    sides = {f"{side}_embedding": unit_vectors(seed, rows) for side in ("image", "text")}
    return {**sides, "similarity": [row / rows for row in range(rows)], "caption_tokens": [5] * rows}


@pytest.fixture
def grow(tmp_path: Path) -> Callable[[int], Dataset]:
    """The dataset with so many parts."""
    return lambda parts: make_dataset(tmp_path / "in", [part(seed) for seed in range(parts)])


def job(tmp_path: Path, where: str = "true", **changes: Any) -> FilterJob:
    return FilterJob(str(tmp_path / "in"), str(tmp_path / "subset"), where=[where], **changes)


def test_what_is_made_within_a_subset_follows_it(grow: Any, tmp_path: Path) -> None:
    grow(2)
    within = filter(job(tmp_path)).out
    nested = FilterJob(str(tmp_path / "in"), str(tmp_path / "nested"), where=["row < 5"], within=within)
    unique = DedupJob(str(tmp_path / "in"), str(tmp_path / "unique"), within=within, near=False)
    table = ExportJob(str(tmp_path / "in"), str(tmp_path / "lance"), "lance", within=within)

    def made() -> tuple[int, int, int, int]:
        exported = export(table).exported
        rows = lance.dataset(f"{table.out}/pairs.lance").count_rows()
        return filter(nested).funnel.kept, dedup(unique).funnel.rows, exported, rows

    assert made() == (10, 20, 20, 20)
    grow(3)  # and the subset not yet
    assert made() == (10, 20, 20, 20)
    assert filter(job(tmp_path)).funnel.kept == 30
    assert made() == (15, 30, 30, 30)


def test_another_subset_in_the_place_of_the_first_is_another(grow: Any, tmp_path: Path) -> None:
    grow(2)
    unique = DedupJob(str(tmp_path / "in"), str(tmp_path / "unique"), within=str(tmp_path / "subset"), near=False)
    filter(job(tmp_path, "row < 5"))
    assert dedup(unique).funnel.rows == 10 and dedup(unique).done_before
    shutil.rmtree(tmp_path / "subset")
    filter(job(tmp_path, "row >= 4"))
    assert dedup(unique).funnel.rows == 12


def test_other_classes_in_the_place_of_the_first_are_others(grow: Any, tmp_path: Path) -> None:
    data = grow(1)
    labels = tmp_path / "labels"

    def labelled(name: str) -> int:
        shutil.rmtree(labels, ignore_errors=True)
        embedded_labels(data, labels, name)
        return filter(job(tmp_path, "labels.label = 'a'", labels=str(labels))).funnel.kept

    assert labelled("a") == 10 and labelled("b") == 0


def embedded_labels(data: Dataset, folder: Path, name: str) -> None:
    """As `label` writes them: every image is of that class."""
    output = Output.at(str(folder)).prepare()
    begin(output, "label", {"dataset": data.url, "fingerprint": data.settings.digest, "classes": name})
    for each in data.parts:
        rows = data.read(each, ["key", "shard", "row", "error"])
        count = len(rows)
        for column, value in (("label", name), ("label_id", 0), ("probability", 0.9), ("margin", 0.5)):
            rows = rows.append_column(column, pa.array([value] * count))
        with output.staged(f"data/{each}", replace=True) as path:
            pq.write_table(rows.replace_schema_metadata({PART: source_of(data, each, None)}), path)


def test_a_subset_of_a_part_that_was_embedded_again_is_refused(grow: Any, tmp_path: Path) -> None:
    grow(2)
    filter(job(tmp_path, "similarity >= 0.5"))
    make_dataset(tmp_path / "in", [part(7, 30), part(1)])
    within = str(tmp_path / "subset")
    for run in (
        lambda: export(ExportJob(str(tmp_path / "in"), str(tmp_path / "out"), "clip-retrieval", within=within)),
        lambda: filter(FilterJob(str(tmp_path / "in"), str(tmp_path / "out"), where=["true"], within=within)),
        lambda: report(ReportJob(str(tmp_path / "in"), str(tmp_path / "r.html"), within=within)),
    ):
        with pytest.raises(InputError, match="was embedded again since this subset was made; make the subset again"):
            run()
    assert filter(job(tmp_path, "similarity >= 0.5")).funnel.rows == 40  # which is how


def test_labels_of_a_part_that_was_embedded_again_are_refused_by_the_report(grow: Any, tmp_path: Path) -> None:
    embedded_labels(grow(2), tmp_path / "labels", "a")
    make_dataset(tmp_path / "in", [part(7, 30), part(1)])
    with pytest.raises(InputError, match="was labelled before it was embedded again; run `clipmill label` again"):
        report(ReportJob(str(tmp_path / "in"), str(tmp_path / "r.html"), labels=str(tmp_path / "labels")))


def test_what_lies_beside_a_part_that_was_embedded_again_is_not_joined(grow: Any, tmp_path: Path) -> None:
    """Its rows have the same places, and are other pictures' perhaps."""
    embedded_labels(grow(2), tmp_path / "labels", "a")
    joined = replace(job(tmp_path, "side.label = 'a'"), joins={"side": str(tmp_path / "labels")})
    assert filter(joined).funnel.kept == 20
    make_dataset(tmp_path / "in", [part(7, 30), part(1)])
    with pytest.raises(InputError, match="was made before the part was embedded again"):
        filter(replace(joined, out=str(tmp_path / "again")))


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"rows": 3}', "without stamps"])
def test_a_damaged_subset_is_refused_and_made_again(grow: Any, tmp_path: Path, content: str) -> None:
    grow(2)
    made = filter(job(tmp_path))
    path = Path(made.out) / FUNNEL
    whole = json.loads(path.read_text())
    del whole["stamps"]
    path.write_text(json.dumps(whole) if content == "without stamps" else content)
    with pytest.raises(InputError, match=r"subset\.json is damaged: delete it and run the same `clipmill filter`"):
        Subset.open(made.out)
    path.unlink()
    assert filter(job(tmp_path)).funnel == made.funnel and len(Subset.open(made.out).parts) == 2


def test_a_subset_of_before_there_were_stamps_fits_by_the_sizes_of_its_parts(grow: Any, tmp_path: Path) -> None:
    dataset = grow(2)
    path = Path(filter(job(tmp_path)).out) / FUNNEL
    finished = json.loads(path.read_text())
    finished["sizes"] = list(dataset.sizes)
    del finished["stamps"]
    path.write_text(json.dumps(finished))
    Subset.open(str(tmp_path / "subset")).check_fits(dataset)
    finished["sizes"][0] += 1
    path.write_text(json.dumps(finished))
    with pytest.raises(InputError, match="was embedded again since this subset was made"):
        Subset.open(str(tmp_path / "subset")).check_fits(dataset)
