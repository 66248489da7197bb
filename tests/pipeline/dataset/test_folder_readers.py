"""People point readers at folders: six of them read what docs/formats.md names, on a disk and on S3, as people do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
import ray
from embedded import embed_here
from fakes import Drawn, parts
from needs import hugging_face_datasets
from s3 import REGION, Bucket

COLUMNS = ["shard", "row", "key", "similarity", "image_embedding"]


@dataclass(frozen=True)
class Folder:
    """An output: a local one, or one on S3 with what its readers need to know."""

    out: str
    cache: Path  # for Hugging Face's copies
    bucket: Bucket | None = None

    @property
    def data(self) -> str:
        return f"{self.out}/data"

    @property
    def storage_options(self) -> dict[str, Any] | None:
        return self.bucket and self.bucket.server.options()


@pytest.fixture(scope="module")
def expected(drawn: Drawn, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    out = tmp_path_factory.mktemp("readers") / "out"
    embed_here(drawn.tars, out)
    assert list((out / ".clipmill").iterdir())  # what no reader may stumble over
    return out, [{name: row[name] for name in COLUMNS} for row in parts(out)]


@pytest.fixture(params=["disk", "s3"])
def folder(request: pytest.FixtureRequest, expected: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    out, _ = expected
    if request.param == "disk":
        return Folder(str(out), tmp_path)
    bucket: Bucket = request.getfixturevalue("bucket")
    bucket.storage.put(f"{out}/", f"{bucket.name}/out/", recursive=True)
    for name, value in bucket.server.environment().items():
        monkeypatch.setenv(name, value)
    return Folder(bucket.url("out"), tmp_path, bucket)


def in_duckdb(folder: Folder) -> pa.Table:
    connection = duckdb.connect()
    if folder.bucket:  # its own extension is a download
        connection.register_filesystem(folder.bucket.storage)
    return connection.sql(f"FROM '{folder.data}/*.parquet'").to_arrow_table()


def in_polars(folder: Folder) -> pa.Table:
    options = {"aws_allow_http": "true", "aws_region": REGION} if folder.bucket else None
    return pl.scan_parquet(f"{folder.data}/", storage_options=options).collect().to_arrow()


def in_pandas(folder: Folder) -> pa.Table:
    return pa.Table.from_pandas(pd.read_parquet(folder.data)[COLUMNS])


def in_pyarrow(folder: Folder) -> pa.Table:
    return ds.dataset(folder.data).to_table()


def in_hugging_face(folder: Folder) -> pa.Table:
    datasets, cache = hugging_face_datasets(), str(folder.cache)
    if folder.bucket is None:
        return datasets.load_dataset(folder.out, split="train", cache_dir=cache).data.table
    files, options = f"{folder.data}/*.parquet", folder.storage_options
    named = {"data_files": files, "storage_options": options}
    return datasets.load_dataset("parquet", split="train", cache_dir=cache, **named).data.table


def in_ray_data(folder: Folder) -> pa.Table:
    storage = folder.bucket and folder.bucket.storage  # workers have the environment of the cluster
    read = ray.data.read_parquet(folder.data, filesystem=storage)
    return pa.Table.from_pylist(read.select_columns(COLUMNS).take_all())


@pytest.mark.parametrize("read", [in_duckdb, in_polars, in_pandas, in_pyarrow, in_hugging_face, in_ray_data])
def test_every_row_is_read(read: Callable[[Folder], pa.Table], folder: Folder, expected: Any, cluster: None) -> None:
    check(read(folder), expected)


def test_hugging_face_reads_the_parquet_of_a_folder(expected: Any, tmp_path: Path) -> None:
    out, _ = expected
    read = hugging_face_datasets().load_dataset
    check(read("parquet", data_dir=f"{out}/data", split="train", cache_dir=str(tmp_path)).data.table, expected)


def check(table: pa.Table, expected: Any) -> None:
    """In order of shard and row, all values are what was written; pandas' NaN is nothing."""
    rows = sorted(expected[1], key=_place)
    got = sorted(table.select(COLUMNS).to_pylist(), key=_place)
    assert len(got) == len(rows) == 120
    for row, other in zip(rows, got, strict=True):
        assert {name: None if value != value else value for name, value in other.items()} == row


def _place(row: dict[str, Any]) -> tuple[str, int]:
    return row["shard"], row["row"]
