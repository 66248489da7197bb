"""Columns copied later: what `embed` would have copied, row by row, without one image read; from tars, Parquet files
and folders, here and on S3; what has changed since is refused."""

from __future__ import annotations

import gzip
import itertools
import json
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from clipmill.pipeline import ColumnsJob, EmbedJob, FilterJob, columns, embed, filter
from clipmill.pipeline.dataset.dataset import Dataset
from clipmill.pipeline.dataset.layout import part_path
from clipmill.pipeline.dataset.output import Output
from clipmill.pipeline.embedding.read_again import row_by_row
from clipmill.pipeline.errors import InputError, PlanMismatchError, UserError
from clipmill.pipeline.inputs.shards import read_fields, read_samples
from clipmill.pipeline.records import Shard
from clipmill.pipeline.storage.holes import between
from embedded import embed_here
from fakes import Drawn, Ran, files
from forget_kit import ROWS, url_of, write_shard
from proxy import proxy
from s3 import Bucket
from tar_kit import packed


@pytest.fixture(autouse=True)
def in_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether or not another test's Ray runs: other processes would not see what is patched here."""
    monkeypatch.setattr("ray.is_initialized", lambda: False)


@pytest.fixture
def copying(ran: Ran, tmp_path: Path) -> ColumnsJob:
    return ColumnsJob(str(ran.out), str(tmp_path / "more"), ["label", "caption_is_right:bool", "nothing:int64"])


def test_columns_are_those_of_the_json_and_no_image_is_opened(
    copying: ColumnsJob, drawn: Drawn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("PIL.Image.open", lambda *_: pytest.fail("an image was opened"))
    summary = columns(copying)
    dataset = Dataset.open(copying.dataset)
    expected = [sample for shard in drawn.shards for sample in read_samples(shard)]
    found = [row for part in dataset.parts for row in pq.read_table(Path(copying.out) / "data" / part).to_pylist()]
    assert [(row["key"], row["label"], row["caption_is_right"], row["nothing"]) for row in found] == [
        (sample.key, sample.metadata.get("label"), sample.metadata.get("caption_is_right"), None) for sample in expected
    ]
    assert summary.rows == len(expected) == 120 and summary.values["label"] > 40 and not summary.values["nothing"]
    before = files(copying.out)
    again = columns(copying)
    assert again.parts_done_before == again.parts == 3 and again.values == summary.values
    assert {name: at for name, at in files(copying.out).items() if "data/" in name} == {
        name: at for name, at in before.items() if "data/" in name
    }
    where = ["more.caption_is_right"]
    job = FilterJob(copying.dataset, joins={"more": copying.out}, where=where, count=True, failed=True)
    assert filter(job).funnel.kept == sum(row["caption_is_right"] is True for row in found)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"columns": ["uid"]}, "--column uid: .* has this column already; leave it out"),
        ({"columns": ["a", "a:bool"]}, "--column a: is given twice"),
        ({"columns": ["a:int"]}, "column 'a:int': the type must be one of"),
        ({"columns": []}, "--column is missing"),
        ({"columns": ["label"]}, r"columns is \['label:string'\], not .*, or add --overwrite"),
    ],
)
def test_wrong_requests_are_one_line(change: Any, complaint: str, copying: ColumnsJob) -> None:
    columns(replace(copying, columns=["text"]))
    with pytest.raises((UserError, PlanMismatchError), match=complaint):
        columns(replace(copying, **change))


def test_a_shard_that_has_changed_is_refused(job: EmbedJob, drawn: Drawn, tmp_path: Path) -> None:
    part = Path(job.out) / "data" / drawn.shards[1].part_name
    table = pq.read_table(part)
    told = {name: value for name, value in pq.read_metadata(part).metadata.items() if name != b"ARROW:schema"}
    keys = table["key"].to_pylist()
    other = table.set_column(0, "key", pa.array(["x", *keys[1:]]))
    copying = ColumnsJob(job.out, str(tmp_path / "more"), ["label"])
    for damaged, complaint in [
        (other, f"sample 0 is '{keys[0]}', and in {part.name} 'x'"),
        (table.slice(0, 5), "has more samples than the 5 rows"),
    ]:
        pq.write_table(damaged.replace_schema_metadata(told), part)
        with pytest.raises(InputError, match=complaint):
            columns(copying)
        assert not (tmp_path / "more" / "data" / part.name).exists()
    shard = json.loads(told[b"clipmill.shard"]) | {"size": 5}
    changed = {**told, b"clipmill.shard": json.dumps(shard).encode()}
    pq.write_table(table.replace_schema_metadata(changed), part)
    with pytest.raises(InputError, match="has changed since it was embedded: restore it, or run `clipmill embed --ref"):
        columns(copying)


def test_embedding_again_with_more_columns_says_how_to_get_them(job: EmbedJob) -> None:
    with pytest.raises(PlanMismatchError) as raised:
        embed(replace(job, columns=("label", "wide:int64")))
    assert "was begun without the column label and wide:int64" in str(raised.value)
    assert f"`clipmill columns {job.out} -o FOLDER --column label --column wide:int64`" in str(raised.value)


def many(samples: int = 40, size: int = 50_000) -> Iterator[tuple[str, bytes]]:
    for number in range(samples):
        yield f"{number:04d}.jpg", random.Random(number).randbytes(size)
        yield f"{number:04d}.json", json.dumps({"label": f"l{number}"}).encode()
        yield f"{number:04d}.txt", b"a caption"


def test_of_a_tar_on_s3_only_what_is_between_the_images_is_fetched(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = packed(list(many()))
    bucket.storage.pipe_file(bucket.url("x.tar"), content)
    shard = Shard(bucket.url("x.tar"), len(content))
    samples = list(read_samples(shard))
    images = [(s.image_offset, s.image_offset + len(s.image or b"")) for s in samples if s.image_offset is not None]
    assert len(images) == 40
    with proxy(bucket.server.endpoint) as through:
        monkeypatch.setenv("AWS_ENDPOINT_URL", through.endpoint)
        options = {**bucket.server.options(), "endpoint_url": through.endpoint}
        found = list(read_fields(shard, ["label"], options, images=images))
        assert found == [(sample.key, sample.metadata) for sample in samples]
        assert through.bytes() < 0.1 * len(content) and through.count("GET", "/") <= 42


def test_on_s3_a_run_that_is_broken_off_leaves_whole_files_and_the_next_one_goes_on(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(2):
        write_shard(tmp_path / f"{number}.tar", number)
        bucket.storage.put_file(tmp_path / f"{number}.tar", bucket.url(f"in/{number}.tar"))
    options = bucket.server.options()
    dataset = embed_here([bucket.url("in/")], bucket.url("out"), storage_options=options)
    job = ColumnsJob(dataset.url, bucket.url("more"), ["page"], storage_options=options)
    calls = itertools.count()

    def broken_off(*arguments: Any) -> Iterator[Any]:
        if next(calls) == 1:
            raise KeyboardInterrupt
        return row_by_row(*arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("clipmill.pipeline.copying.part.row_by_row", broken_off)
        columns(job)
    output = Output.at(job.out, options)
    left = output.parts()
    assert len(left) < 2
    summary = columns(job)
    assert (summary.parts_done_before, summary.rows, summary.values) == (len(left), 2 * ROWS, {"page": 2 * ROWS})
    for number, part in enumerate(dataset.parts):
        with output.open(part_path(part)) as file:
            found = pq.read_table(file, columns=["row", "page"]).to_pylist()
        assert found == [{"row": row, "page": url_of(number, row)} for row in range(ROWS)]


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".parquet", "/"])
def test_fields_are_those_of_the_samples_in_every_format(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"x{suffix}"
    if suffix == "/":
        path.mkdir()
        for name, data in many(5, 5000):
            (path / name).write_bytes(data)
    elif suffix == ".parquet":
        images = pa.array([data for name, data in many(5) if name.endswith("jpg")])
        pq.write_table(pa.table({"key": list("abcde"), "image": images, "label": list("vwxyz"), "n": range(5)}), path)
    else:
        content = packed([*many(5), ("more.png", b"\x89PNG"), ("more.json", b"{no json"), ("z.txt", b"alone")])
        path.write_bytes(gzip.compress(content) if suffix.endswith("gz") else content)
    shard = Shard(f"{path}{'/' if suffix == '/' else ''}", None if suffix == "/" else path.stat().st_size)
    samples = [(sample.key, sample.metadata.get("label")) for sample in read_samples(shard)]
    read = [(key, fields.get("label")) for key, fields in read_fields(shard, ["label"])]
    assert read == samples and len(read) >= 5


@pytest.mark.parametrize(
    ("holes", "left"),
    [
        ([], [(0, 30_000)]),
        ([(512, 20_000)], [(0, 512), (20_000, 30_000)]),
        ([(512, 600), (1000, 20_000)], [(0, 1000), (20_000, 30_000)]),  # a narrow one is fetched
        ([(0, 20_000), (20_000, 30_000)], []),
        ([(1000, 20_000), (900, 15_000)], [(0, 900), (20_000, 30_000)]),
    ],
)
def test_what_is_left_of_a_file_with_holes(holes: Any, left: Any) -> None:
    assert list(between(holes, 30_000)) == left
