"""Exports with columns of side tables: each row has its own, and a file that has changed is exported again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from clipmill.pipeline import ExportJob, ForgetJob, export, forget
from clipmill.pipeline.dataset.dataset import Dataset
from clipmill.pipeline.errors import UserError
from export_kit import READERS, Rows, part_of, subset_of
from made import make_dataset, unit_vectors
from pyiceberg.catalog.sql import SqlCatalog
from side_kit import write_side

PARTS = [part_of(1, 6, error=["decode: broken", *[None] * 5]), part_of(2, 3), part_of(3, 4)]
COLUMNS = ("s.score", "error", "other.image_embedding", "s.word")


def read_lance(folder: Path) -> Rows:
    """Columns of side tables by the names that SQL has for them."""
    table = lance.dataset(f"{folder}/pairs.lance").to_table().flatten()
    return table.to_pylist()


ROWS_OF: dict[str, Callable[[Path], Rows]] = {**READERS, "lance": read_lance}


@pytest.fixture
def job(tmp_path: Path) -> ExportJob:
    dataset = make_dataset(tmp_path / "in", PARTS, row_group=2)
    make_dataset(tmp_path / "other", [{"image_embedding": unit_vectors(9 + n, r)} for n, r in enumerate((6, 3, 4))])

    def scores(own: pa.Table) -> dict[str, Any]:
        score = [None if row == 2 else 10.0 * len(own) + row for row in range(len(own))]
        return {"score": pa.array(score, pa.float32()), "word": [f"row {row}" for row in range(len(own))]}

    joins = {"s": write_side(tmp_path / "scores", dataset, scores), "other": str(tmp_path / "other")}
    return ExportJob(dataset.url, str(tmp_path / "out"), "lance", columns=COLUMNS, joins=joins)


@pytest.mark.parametrize("to", ROWS_OF)
def test_each_row_has_its_columns_of_side_tables(to: Any, job: ExportJob, tmp_path: Path) -> None:
    within = subset_of(Dataset.open(job.dataset), tmp_path / "subset", [0, 1, 2, 5])
    for of, wanted in ((within, (0, 1, 2, 5)), (None, range(6))):
        made = export(replace(job, to=to, within=of, out=f"{job.out}-{of is None}", rows_per_file=4))
        rows = ROWS_OF[to](Path(made.out))
        places = [(n, size, row) for n, size in enumerate((6, 3, 4)) for row in wanted if row < size and (n or row)]
        assert [(row["shard"], row["row"]) for row in rows] == [(f"/made/{n:05d}.tar", row) for n, _, row in places]
        scores = [None if np.isnan(row["s.score"] or np.nan) else row["s.score"] for row in rows]
        assert scores == [None if row == 2 else 10 * size + row for _, size, row in places]
        assert [row["s.word"] for row in rows] == [f"row {row}" for *_, row in places]
        vectors = [unit_vectors(9 + n, size)[row].astype(np.float16) for n, size, row in places]
        assert np.array_equal([row["other.image_embedding"] for row in rows], vectors)


@pytest.mark.parametrize("to", ROWS_OF)
def test_a_side_file_that_has_changed_is_exported_again(to: Any, job: ExportJob) -> None:
    job = replace(job, to=to, rows_per_file=5, columns=["s.score"], joins={"s": job.joins["s"]})
    export(job)
    assert export(job).done_before == export(job).files
    last = sorted(Path(job.joins["s"]).iterdir())[-1]
    table = pq.read_table(last)
    pq.write_table(table.set_column(2, "score", pa.array([7.0] * 4, pa.float64())), last)  # of another type, too
    made = export(job)
    assert made.files - made.done_before == 1
    assert [row["s.score"] for row in ROWS_OF[to](Path(made.out))][-4:] == [7.0] * 4


def test_iceberg_has_a_table_for_each_folder_that_is_joined(job: ExportJob) -> None:
    job = replace(job, to="iceberg", columns=())
    made = export(job)
    assert made.files == 3 and export(job).done_before == 3
    assert made.notes[1].startswith("without other.image_embedding, other.text_embedding: Iceberg has no 16-bit")
    catalog = SqlCatalog("clipmill", uri=f"sqlite:///{job.out}/catalog.db")
    scores = catalog.load_table("clipmill.pairs_s").scan().to_arrow()
    assert scores.column_names == ["shard", "row", "score", "word"] and len(scores) == made.rows == 13
    assert catalog.load_table("clipmill.pairs_other").scan().to_arrow()["row"].to_pylist()[:6] == list(range(6))
    make_dataset(Path(job.dataset), [*PARTS, part_of(4, 2)], row_group=2)
    make_dataset(Path(job.joins["other"]), [{"image_embedding": unit_vectors(1, r)} for r in (6, 3, 4, 2)])
    new = {"score": pa.array([1.0] * 2, pa.float32()), "word": ["w"] * 2}
    write_side(Path(job.joins["s"]), Dataset.open(job.dataset), lambda _: new)
    export(job)
    of_scores = catalog.load_table("clipmill.pairs_s")
    added = [snapshot.summary.additional_properties["added-data-files"] for snapshot in of_scores.snapshots()]
    assert added == ["3", "1"] and of_scores.scan().to_arrow()["score"].to_pylist().count(1.0) == 2
    odd = {"when": pa.array([0] * 6, pa.timestamp("ns"))}
    for kind, complaint in (("other columns", "other columns than other files"), ("no type", "no type for what it")):
        for file in sorted(Path(job.joins["s"]).iterdir())[: None if kind == "no type" else 1]:
            own = pq.read_table(file, columns=["shard", "row"])
            pq.write_table(own.append_column("when", odd["when"].slice(0, len(own))), file)
        with pytest.raises(UserError, match=complaint):
            export(replace(job, out=f"{job.out}-odd"))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"columns": ["s.score"]}, "--join other=.*: none of its columns is named; add --column other.NAME"),
        ({"columns": ["s.scor", "other.key"]}, "--column s.scor: no such column; there are key, .*s.score"),
        ({"columns": [*COLUMNS, "text"], "to": "datacomp"}, "no such column"),
        ({"to": "iceberg"}, "--column: iceberg registers whole files"),
        ({"joins": {"1": "x"}}, "'1' cannot be an alias"),
    ],
)
def test_wrong_names_are_one_line(changes: Any, complaint: str, job: ExportJob) -> None:
    with pytest.raises(UserError, match=complaint) as raised:
        export(replace(job, **changes))
    assert "\n" not in str(raised.value) and not Path(job.out).exists()


def test_a_column_that_the_layout_has_of_something_else_is_refused(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "in", [part_of(1, 2, text=["a", "b"])], columns=["text"])
    job = ExportJob(dataset.url, str(tmp_path / "out"), "datacomp", columns=["text"])
    with pytest.raises(UserError, match="--column text: DataComp's layout has another column of this name"):
        export(job)


@pytest.mark.parametrize("to", [*ROWS_OF, "iceberg"])
def test_a_side_file_that_does_not_fit_is_refused(to: Any, job: ExportJob) -> None:
    job = replace(job, to=to, columns=[] if to == "iceberg" else COLUMNS)
    first = sorted(Path(job.joins["s"]).iterdir())[0]
    pq.write_table(pq.read_table(first).slice(0, 5), first)
    with pytest.raises(UserError, match=r"--join s=.*: 00000-\w+.parquet has 5 rows, and the dataset's part 6; make"):
        export(job)


def test_what_is_forgotten_in_a_joined_dataset_is_not_exported(job: ExportJob, tmp_path: Path) -> None:
    keys = tmp_path / "keys.txt"
    keys.write_text("000010001\n")
    forget(ForgetJob(job.joins["other"], keys=str(keys)))
    rows = read_lance(Path(export(job).out))
    gone = [(row["shard"], row["row"]) for row in rows if row["other.image_embedding"] is None]
    assert gone == [("/made/00001.tar", 1)]
    with pytest.raises(UserError, match="other: its parts hold 1 rows that were forgotten"):
        export(replace(job, to="iceberg", columns=(), out=job.out + "-iceberg"))
