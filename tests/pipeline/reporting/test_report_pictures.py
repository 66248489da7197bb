"""A report's pictures, from whatever the dataset was embedded from."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from clipmill.pipeline import ReportJob, report
from clipmill.pipeline.choices import USUAL_KEYS
from clipmill.pipeline.dataset.thumbnails import thumbnail
from clipmill.pipeline.inputs import parquet_input
from clipmill.pipeline.inputs.parquet_input import read_images
from clipmill.pipeline.records import Shard
from clipmill.pipeline.reporting import pictures as module
from clipmill.pipeline.reporting.pictures import pictures
from clipmill.pipeline.reporting.shown_rows import Row
from clipmill.pipeline.running.stages import Stage
from embedded import embed_here
from fakes import jpeg
from parquet_kit import STRUCT
from s3 import Bucket

IMAGES = [jpeg(seed) for seed in range(10)]
CAPTIONS = [f"number {seed}" for seed in range(10)]
LAYOUTS: dict[str, Any] = {
    "bytes": pa.array(IMAGES, pa.binary()),
    "Hugging Face": pa.array([{"bytes": image, "path": None} for image in IMAGES], STRUCT),
    "lists": pa.array([[image, b"another"] for image in IMAGES], pa.list_(pa.binary())),
}


def rows_of(shard: str) -> list[Row]:
    return [Row(str(row), None, shard, row, None, len(image)) for row, image in enumerate(IMAGES)]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_those_of_parquet_are_its_columns(layout: str, tmp_path: Path) -> None:
    table = pa.table({"image": LAYOUTS[layout], "caption": CAPTIONS, "other": ["x" * 1000] * 10})
    pq.write_table(table, tmp_path / "in.parquet", row_group_size=4)
    dataset = embed_here([tmp_path / "in.parquet"], tmp_path / "out")
    told: list[Stage] = []
    found = pictures(dataset, rows_of(str(tmp_path / "in.parquet"))[1::2], told.append)
    assert {row: picture for (_, row), picture in found.items()} == {
        row: thumbnail(IMAGES[row], 240) for row in (1, 3, 5, 7, 9)
    }
    assert told[-1] == Stage("reading pictures", "files", 1, 1)
    page = report(ReportJob(dataset.url, str(tmp_path / "r.html")))
    assert (page.pictures, page.pictures_missing) == (10, 0)


def test_those_of_parquet_in_an_object_store(bucket: Bucket, tmp_path: Path) -> None:
    file = io.BytesIO()
    pq.write_table(pa.table({"image": IMAGES, "caption": CAPTIONS}), file, row_group_size=3)
    bucket.storage.pipe_file(bucket.url("in/a.parquet"), file.getvalue())
    dataset = embed_here([bucket.url("in/a.parquet")], tmp_path / "out")
    found = report(ReportJob(dataset.url, str(tmp_path / "r.html")))
    assert (found.pictures, found.pictures_missing) == (10, 0)


def test_a_picture_far_within_a_row_group_is_left_out(tmp_path: Path) -> None:
    images = [bytes([row]) * 100_000 for row in range(100)]
    pq.write_table(
        pa.table({"image": images, "text": ["t" * 100_000] * 100}), tmp_path / "a.parquet", row_group_size=50,
        compression="none", use_dictionary=False,
    )  # fmt: skip
    found = dict(read_images(Shard(str(tmp_path / "a.parquet")), {}, USUAL_KEYS, [0, 7, 12, 49, 50, 58, 99], 10**6))
    assert list(found) == [0, 7, 50, 58]  # ten images a megabyte: those of other columns do not count
    assert all(image == images[row] for row, image in found.items())


def test_only_what_comes_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pq.write_table(pa.table({"image": IMAGES * 100}), tmp_path / "a.parquet", row_group_size=500)
    batches: list[int] = []
    real = parquet_input._batches

    def watched(*given: Any) -> Any:
        for batch in real(*given):
            batches.append(batch.num_rows)
            yield batch

    monkeypatch.setattr(parquet_input, "_batches", watched)
    found = dict(read_images(Shard(str(tmp_path / "a.parquet")), {}, USUAL_KEYS, [40, 501], 1 << 20))
    assert found == {40: IMAGES[0], 501: IMAGES[1]}
    assert sum(batches) == 2 * 32 + 32


def test_where_a_file_is_gone_or_another_the_rest_is_shown(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        pq.write_table(pa.table({"image": IMAGES, "caption": CAPTIONS}), tmp_path / f"{name}.parquet")
    dataset = embed_here([tmp_path / f"{name}.parquet" for name in "abc"], tmp_path / "out")
    (tmp_path / "a.parquet").unlink()
    (tmp_path / "b.parquet").write_bytes(b"PAR1 and no more")
    found = report(ReportJob(dataset.url, str(tmp_path / "r.html")))
    assert found.pictures == 10 and found.pictures_missing > 0
    assert "pictures cannot be shown" in (tmp_path / "r.html").read_text()
    pq.write_table(pa.table({"image": [b"other"] * 10, "caption": CAPTIONS}), tmp_path / "c.parquet")
    assert pictures(dataset, rows_of(str(tmp_path / "c.parquet")), lambda _: None) == {}


def test_a_page_says_how_much_is_read_for_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pq.write_table(pa.table({"image": IMAGES, "caption": CAPTIONS}), tmp_path / "a.parquet")
    dataset = embed_here([tmp_path / "a.parquet"], tmp_path / "out")
    monkeypatch.setattr(module, "MOST", 3000)
    found = report(ReportJob(dataset.url, str(tmp_path / "r.html")))
    assert 0 < found.pictures < 10
    assert "more than 32 MiB come before it in a row group" in (tmp_path / "r.html").read_text()
