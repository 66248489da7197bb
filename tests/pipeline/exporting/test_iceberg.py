"""An Iceberg table has the parts where they are, and follows them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from clipmill.pipeline import Export, ExportJob, export
from clipmill.pipeline.dataset.dataset import Dataset
from clipmill.pipeline.errors import UserError
from export_kit import part_of
from fakes import Ran, files, parts
from made import make_dataset, unit_vectors
from pyiceberg.catalog.sql import SqlCatalog


def test_iceberg_has_the_parts_where_they_are(job: Any, ran: Ran) -> None:
    before = files(str(ran.out))
    made = export(job("iceberg"))
    assert files(str(ran.out)) == before and not list(Path(made.out).rglob("*.parquet"))
    assert (made.rows, made.exported) == (120, 120)
    assert made.notes == (
        "without image_embedding, text_embedding: Iceberg has no 16-bit floats; read them from the parts",
    )
    table = load_iceberg(made)
    rows = sorted(table.scan().to_arrow().to_pylist(), key=lambda row: (row["shard"], row["row"]))
    names = [name for name in Dataset.open(str(ran.out)).schema.names if "embedding" not in name]
    expected = sorted(parts(ran.out), key=lambda row: (row["shard"], row["row"]))
    assert rows == [{name: row[name] for name in names} for row in expected]
    good = table.scan(row_filter="similarity > 0.0", selected_fields=("key",)).to_arrow()
    assert len(good) == sum((row["similarity"] or 0) > 0 for row in expected)
    counted = table.scan().to_duckdb("pairs").execute("SELECT count(*), sum(similarity) FROM pairs").fetchone()
    assert counted == (120, pytest.approx(sum(row["similarity"] or 0 for row in expected)))
    assert export(job("iceberg")).done_before == 1


def load_iceberg(made: Export) -> Any:
    return SqlCatalog("clipmill", uri=f"sqlite:///{made.out}/catalog.db").load_table("clipmill.pairs")


def test_an_iceberg_table_has_embeddings_of_32_bits(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "in", [part_of(1, 3)], embedding_type="float32")
    made = export(ExportJob(dataset.url, str(tmp_path / "out"), "iceberg"))
    assert made.notes == ()
    rows = load_iceberg(made).scan().to_arrow()
    assert rows["image_embedding"].to_pylist() == unit_vectors(1, 3).tolist()


def test_polars_reads_the_iceberg_table(job: Any) -> None:

    table = load_iceberg(export(job("iceberg")))
    assert pl.scan_iceberg(table, reader_override="pyiceberg").select(pl.len()).collect().item() == 120
    assert pl.scan_iceberg(table, reader_override="native").select("key", "similarity").collect().shape == (120, 2)


def test_an_iceberg_table_grows_by_a_snapshot_of_the_new_parts(tmp_path: Path) -> None:
    job = ExportJob(str(tmp_path / "in"), str(tmp_path / "out"), "iceberg")
    make_dataset(tmp_path / "in", [part_of(1, 3), part_of(3, 2)])
    first = load_iceberg(export(job))
    make_dataset(tmp_path / "in", [part_of(1, 3), part_of(3, 2), part_of(2, 4)])
    made = export(job)
    table = load_iceberg(made)
    assert table.metadata.table_uuid == first.metadata.table_uuid and (made.rows, made.done_before) == (9, 0)
    added = [snapshot.summary.additional_properties["added-data-files"] for snapshot in table.snapshots()]
    assert added == ["2", "1"]
    fresh = load_iceberg(export(replace(job, out=str(tmp_path / "fresh")))).scan().to_arrow().to_pylist()
    assert sorted(table.scan().to_arrow().to_pylist(), key=str) == sorted(fresh, key=str)
    make_dataset(tmp_path / "in", [part_of(1, 3), part_of(3, 5), part_of(2, 4)])
    anew = load_iceberg(export(job))
    assert anew.scan().count() == 12 and anew.metadata.table_uuid != first.metadata.table_uuid
    assert export(job).done_before == 1


def test_an_iceberg_table_spares_strangers(tmp_path: Path) -> None:
    job = ExportJob(str(tmp_path / "in"), str(tmp_path / "out"), "iceberg")
    make_dataset(tmp_path / "in", [part_of(1, 3)])
    assert load_iceberg(export(job)).scan().count() == 3
    catalog = SqlCatalog("clipmill", uri=f"sqlite:///{tmp_path}/out/catalog.db")
    catalog.drop_table("clipmill.pairs")
    catalog.create_table("clipmill.pairs", pa.schema([("a", pa.int64())]), location=f"file://{tmp_path}/theirs")
    with pytest.raises(UserError, match="that clipmill did not make"):
        export(job)
