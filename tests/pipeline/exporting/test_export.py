"""An export made again, of a dataset that grew, of a subset, of what is not whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clipmill.pipeline import ExportJob, export
from clipmill.pipeline.dataset.dataset import Dataset
from clipmill.pipeline.errors import InputError, PlanMismatchError
from export_kit import READERS, TO_FILES, Rows, part_of, read_datacomp, subset_of
from fakes import Ran, files
from made import make_dataset, unit_vectors
from narrow_kit import garble, small_tables, tables


@pytest.mark.parametrize("to", TO_FILES)
def test_again_nothing_is_written_and_elsewhere_the_same(job: Any, to: str, tmp_path: Path) -> None:
    made = export(job(to, rows_per_file=50))
    before = files(made.out)
    again = export(job(to, rows_per_file=50))
    assert files(made.out) == before and again == replace(made, done_before=made.files)
    export(replace(job(to, rows_per_file=50), out=str(tmp_path / "other")))
    for path in Path(made.out).rglob("*.*"):
        if ".clipmill" not in path.parts:
            assert (tmp_path / "other" / path.relative_to(made.out)).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("to", TO_FILES)
def test_what_a_killed_run_left_is_completed(job: Any, to: str) -> None:
    made = export(job(to, rows_per_file=50))
    folder = Path(made.out) / ("metadata" if to == "clip-retrieval" else "")
    lost = sorted(folder.glob("*.parquet"))[1]
    expected = READERS[to](Path(made.out))
    lost.unlink()
    assert export(job(to, rows_per_file=50)).done_before == made.files - 1
    np.testing.assert_equal(READERS[to](Path(made.out)), expected)


@pytest.mark.parametrize("to", TO_FILES)
def test_an_export_follows_its_dataset(to: str, tmp_path: Path) -> None:
    job = ExportJob(str(tmp_path / "in"), str(tmp_path / "out"), to, rows_per_file=3)  # type: ignore[arg-type]
    make_dataset(tmp_path / "in", [part_of(1, 3), part_of(2, 2)])
    export(job)
    grown = [part_of(1, 3), part_of(2, 2), *(part_of(seed, 3) for seed in range(3, 13))]
    make_dataset(tmp_path / "in", grown)
    export(job)
    assert len(READERS[to](tmp_path / "out")) == 35
    make_dataset(tmp_path / "in", [part_of(1, 3, error=["decode: broken"] * 3)])  # done again; the others stay
    made = export(job)
    assert (made.failed, made.exported) == (3, 32)
    assert [row["uid"] for row in READERS[to](tmp_path / "out")] == [uid for part in grown[1:] for uid in part["uid"]]


@pytest.mark.parametrize("to", [*TO_FILES, "lance"])
def test_within_a_subset_only_its_rows_are_exported(
    job: Any, ran: Ran, to: str, tmp_path: Path, embedded: Rows
) -> None:
    dataset = Dataset.open(str(ran.out))
    within = subset_of(dataset, tmp_path / "subset", [0, 3, 4, 39])
    made = export(job(to, within=within))
    expected = [(row["shard"], row["row"]) for row in embedded if row["row"] in (0, 3, 4, 39)]
    assert made.exported == len(expected) and made.rows == 12
    if to in READERS:
        assert [(row["shard"], row["row"]) for row in READERS[to](Path(made.out))] == expected
    with pytest.raises(PlanMismatchError, match="within is None"):
        export(job(to))


def test_rows_without_one_of_the_sides_are_counted_and_left_out(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "in", [part_of(1, 3, caption_tokens=[5, None, 5])])
    made = export(ExportJob(dataset.url, str(tmp_path / "out"), "datacomp"))
    assert (made.rows, made.exported, made.incomplete) == (3, 2, 1)
    assert [row["row"] for row in read_datacomp(tmp_path / "out")] == [0, 2]


@pytest.mark.parametrize("to", TO_FILES)
def test_images_only(to: str, tmp_path: Path) -> None:
    part = part_of(1, 2)
    for name in ("text_embedding", "caption_tokens", "similarity"):
        del part[name]
    dataset = make_dataset(tmp_path / "in", [part], embeds="images")
    export(ExportJob(dataset.url, str(tmp_path / "out"), to))  # type: ignore[arg-type]
    row = READERS[to](tmp_path / "out")[1]
    present, absent = {"datacomp": ("tiny_img", "tiny_txt"), "clip-retrieval": ("img", "text")}[to]
    assert np.array_equal(row[present], unit_vectors(1, 2)[1].astype(np.float16))
    assert absent not in row
    assert not list((tmp_path / "out").glob("text_emb/*"))


@pytest.mark.parametrize("to", [*TO_FILES, "lance"])
def test_only_failures_or_no_rows_are_one_line(to: Any, tmp_path: Path) -> None:
    failed = make_dataset(tmp_path / "failed", [{"error": ["decode: not an image"] * 3}])
    with pytest.raises(InputError, match="nothing to export: of 3 rows 3 failed"):
        export(ExportJob(failed.url, str(tmp_path / "out"), to))
    empty = make_dataset(tmp_path / "empty", [{}])
    with pytest.raises(InputError, match="nothing to export: it has no rows"):
        export(ExportJob(empty.url, str(tmp_path / "out"), to))
    assert not (tmp_path / "out").exists()


def test_rows_are_counted_in_the_narrow_table_and_around_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = [None if row % 7 else "decode: broken" for row in range(150)]
    dataset = make_dataset(tmp_path / "in", [part_of(seed, 150, error=errors) for seed in range(5)])
    within = subset_of(dataset, tmp_path / "subset", list(range(0, 150, 2)))
    jobs = [
        ExportJob(dataset.url, str(tmp_path / name), "lance", within=of) for name, of in (("a", None), ("b", within))
    ]
    expected = [replace(export(job), done_before=1) for job in jobs]
    small_tables(monkeypatch)
    assert [export(job) for job in jobs] == expected and len(tables(dataset.url)) > 1
    for job, of_parts in zip(jobs, expected, strict=True):
        broken = garble(dataset.url)
        assert export(job) == of_parts and of_parts.failed > 0
        assert broken not in tables(dataset.url)
