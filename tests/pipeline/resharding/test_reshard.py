"""`reshard`: new shards hold the same bytes in the same order, however they are read, and are written once."""

from __future__ import annotations

import hashlib
import json
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import ray
from clipmill.pipeline.dataset.dataset import Dataset
from clipmill.pipeline.deduplication.dedup import dedup
from clipmill.pipeline.errors import InputError, StorageFullError
from clipmill.pipeline.job import DedupJob, ReshardJob
from clipmill.pipeline.resharding.new_shard import WriteShard
from clipmill.pipeline.resharding.reshard import reshard
from embedded import embed_here
from fakes import jpeg, write_tar
from reshard_kit import beside, files_of, make_shards, samples, subset_of, tars, written
from s3 import Bucket


@pytest.mark.usefixtures("way")
def test_every_file_of_every_wanted_sample_is_there_byte_for_byte_in_the_datasets_order(
    dataset: Dataset, job: ReshardJob, tmp_path: Path
) -> None:
    subset = subset_of(dataset, tmp_path / "subset", lambda part, row: (part + row) % 3 == 0 and row % 7 != 3)
    wanted = [(part, row) for part in range(3) for row in range(20) if (part + row) % 3 == 0 and row % 7 != 3]
    summary = reshard(replace(job, source=subset.output.url))
    found = list(samples(tars(job.out)).values())
    assert found == [dict(files_of(part, row)) for part, row in wanted]
    assert [list(sample) for sample in found] == [[kind for kind, _ in files_of(*place)] for place in wanted]
    assert (summary.samples, summary.shards, summary.shards_done_before) == (len(wanted), 2, 0)
    rows = beside(job.out)
    assert [(int(row["source_shard"][-9:-4]), row["source_row"]) for row in rows] == wanted
    assert [row["sha256"] for row in rows] == [hashlib.sha256(sample["jpg"]).hexdigest() for sample in found]


def test_it_asks_for_ranges_or_reads_everything_as_costs_say(
    dataset: Dataset, job: ReshardJob, way: str, tmp_path: Path
) -> None:
    subset = subset_of(dataset, tmp_path / "subset", lambda _, row: row == 8)
    summary = reshard(replace(job, source=subset.output.url))
    sizes = sum(len(data) for part in range(3) for _, data in files_of(part, 8))
    if way == "by ranges":
        assert (summary.requests, summary.whole_shards) == (3, 0)
        assert sizes < summary.request_bytes < 3 * sizes + 3 * 8 * 512
    else:
        assert (summary.requests, summary.whole_shards) == (0, 3)


def test_a_dataset_gives_all_that_was_embedded(job: ReshardJob) -> None:
    summary = reshard(job)
    assert summary.samples == 51 and summary.shards == 6
    wanted = [dict(files_of(part, row)) for part in range(3) for row in range(20) if row % 7 != 3]
    assert list(samples(tars(job.out)).values()) == wanted


def test_names_keys_tables_and_statistics_are_as_img2dataset_writes_them(job: ReshardJob) -> None:
    reshard(replace(job, samples_per_shard=20))
    names = sorted(path.name for path in Path(job.out).iterdir() if path.is_file())
    assert names == [f"{shard:05d}{end}" for shard in range(3) for end in (".parquet", ".tar", "_stats.json")]
    keys = list(samples(tars(job.out)))
    assert keys[:2] == ["0000000", "0000001"] and keys[20] == "0000100" and len(set(keys)) == 51
    rows = beside(job.out)
    assert [row["key"] for row in rows] == keys
    assert list(rows[0])[:11] == [
        "url", "caption", "key", "status", "error_message", "width", "height", "original_width", "original_height",
        "exif", "sha256",
    ]  # fmt: skip
    first = rows[0]
    assert (first["url"], first["status"], first["error_message"]) == ("http://x/0/0", "success", None)
    assert (first["width"], first["height"], first["original_width"], first["original_height"]) == (24, 20, 640, None)
    assert (first["source_key"], first["exif"], first["caption"]) == ("00000", "{}", "number 0 of 0")
    assert not {"image_offset", "image_size", "error", "image_embedding"} & set(first)
    stats = json.loads((Path(job.out) / "00002_stats.json").read_text())
    assert (stats["count"], stats["successes"], stats["status_dict"]) == (11, 11, {"success": 11})


def test_the_new_shards_embed_to_the_same_vectors(dataset: Dataset, job: ReshardJob, tmp_path: Path) -> None:
    unique = dedup(DedupJob(dataset.url, str(tmp_path / "unique")))
    reshard(replace(job, source=unique.out))
    again = embed_here([job.out], tmp_path / "again")
    columns = ["image_embedding", "text_embedding", "similarity", "sha256", "caption", "url", "width"]
    before = pa.Table.from_batches(dataset.batches([*columns, "error"]))
    kept = before.filter(before["error"].is_null()).drop_columns(["error"])
    assert pa.Table.from_batches(again.batches(columns)).to_pylist() == kept.to_pylist()


def test_the_same_samples_give_the_same_bytes_wherever_they_are_written(
    cluster: None, job: ReshardJob, tmp_path: Path
) -> None:
    reshard(replace(job, address="local", out=str(tmp_path / "ray")))
    monkey = pytest.MonkeyPatch()
    monkey.setattr(ray, "is_initialized", lambda: False)
    reshard(job)
    monkey.undo()
    ours = written(job.out)
    assert {**written(str(tmp_path / "ray")), ".clipmill/step.json": None} == {**ours, ".clipmill/step.json": None}
    assert len(ours) == 6 * 2 + 1
    with tarfile.open(tars(job.out)[0]) as tar:
        assert {(m.mtime, m.uid, m.gid, m.uname, m.mode) for m in tar} == {(0, 0, 0, "", 0o644)}


def test_what_is_written_is_not_written_again(job: ReshardJob) -> None:
    reshard(job)
    whole = written(job.out)
    (Path(job.out) / "00001.tar").unlink()
    (Path(job.out) / "00004.tar").unlink()
    (Path(job.out) / "00004.parquet").write_bytes(b"never finished")
    before = {path: path.stat().st_mtime_ns for path in tars(job.out)}
    resumed = reshard(job)
    assert resumed.shards_done_before == 4
    assert written(job.out) == whole
    assert {path: path.stat().st_mtime_ns for path in before} == before
    again = reshard(job)
    assert (again.shards, again.shards_done_before, again.requests, again.whole_shards) == (6, 6, 0, 0)


def test_a_shard_that_fails_on_the_way_leaves_no_tar(job: ReshardJob, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> bytes:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("clipmill.pipeline.resharding.new_shard._stats", full)
    with pytest.raises(StorageFullError, match="no space left on device"):
        reshard(job)
    assert tars(job.out) == [] and not list((Path(job.out) / ".clipmill/staging").iterdir())


def test_shuffled_every_sample_is_there_once(job: ReshardJob, tmp_path: Path) -> None:
    reshard(job)
    reshard(replace(job, shuffle=4, out=str(tmp_path / "b")))
    plain, shuffled = (list(samples(tars(out)).values()) for out in (job.out, str(tmp_path / "b")))
    assert plain != shuffled
    assert sorted(plain, key=str) == sorted(shuffled, key=str)
    reshard(replace(job, shuffle=4, out=str(tmp_path / "c")))
    assert written(str(tmp_path / "b")).keys() == written(str(tmp_path / "c")).keys()
    assert [p.read_bytes() for p in tars(str(tmp_path / "b"))] == [p.read_bytes() for p in tars(str(tmp_path / "c"))]


@pytest.mark.usefixtures("way")
def test_on_object_storage_it_is_the_same(bucket: Bucket, job: ReshardJob, dataset: Dataset, tmp_path: Path) -> None:
    for path in make_shards(tmp_path / "shards"):
        bucket.storage.put_file(str(path), bucket.url(f"shards/{path.name}"))
    there = embed_here([bucket.url("shards/{00000..00002}.tar")], bucket.url("out"))
    far, near = (
        subset_of(each, out, lambda part, row: row > part)
        for each, out in ((there, bucket.url("some")), (dataset, tmp_path / "some"))
    )
    job = replace(job, source=near.output.url)
    there_job = ReshardJob(far.output.url, bucket.url("new"), samples_per_shard=10)
    assert reshard(there_job).samples == reshard(job).samples == 54
    for path in tars(job.out):
        assert bucket.storage.cat_file(bucket.url(f"new/{path.name}")) == path.read_bytes()
    assert bucket.uploads() == []
    again = reshard(there_job)
    assert again.shards_done_before == again.shards == 6
    write_tar(tmp_path / "other.tar", [("00000.jpg", jpeg(1))])
    bucket.storage.put_file(str(tmp_path / "other.tar"), bucket.url("shards/00001.tar"))
    with pytest.raises(InputError, match=r"shards/00001\.tar has changed since"):
        reshard(replace(there_job, out=bucket.url("more")))


def test_digits_grow_with_the_number_of_shards(dataset: Dataset) -> None:
    write = WriteShard(dataset, None, dataset.output, (6, 4))
    assert write.name_of(99_999) == "099999"


def test_vectors_are_those_of_hashes(dataset: Dataset) -> None:
    """What the test of equal vectors rests on: different images have different ones."""
    vectors = np.stack(
        [v for v in dataset.read(dataset.parts[0], ["image_embedding"])["image_embedding"].to_pylist() if v]
    )
    assert len(np.unique(vectors, axis=0)) == 17
