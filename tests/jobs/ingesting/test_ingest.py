"""URL lists become shards that `embed` reads: every URL is accounted for, and a second run does only what is new."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from clipmill.jobs.ingesting.ingest import ingest
from clipmill.jobs.ingesting.url_lists import find_lists, read_list
from clipmill.pipeline.errors import InputError, PlanMismatchError, TooManyFailuresError, UserError
from clipmill.pipeline.inputs.shards import read_samples
from clipmill.pipeline.job import IngestJob
from clipmill.pipeline.records import Shard
from web import SMALL, Web


def write_list(path: Path, web: Web, names: list[str]) -> Path:
    sums = [("0" * 64 if name.startswith("wrong") else hashlib.sha256(SMALL).hexdigest()) for name in names]
    table = {"link": [f"{web.url}/{name}" for name in names], "text": [f"picture {name}" for name in names]}
    pq.write_table(pa.table({**table, "sum": sums, "n": list(range(len(names)))}), path)
    return path


@pytest.fixture
def job(tmp_path: Path) -> IngestJob:
    return IngestJob(
        str(tmp_path / "list.parquet"),
        str(tmp_path / "shards"),
        url_column="link",
        caption_column="text",
        columns=("n",),
        samples_per_shard=4,
        timeout=1,
        retries=0,
        threads=4,
    )


def samples(out: str) -> dict[str, dict[str, object]]:
    """By caption: what `embed` would read."""
    found = {}
    for tar in sorted(Path(out).glob("*.tar")):
        for sample in read_samples(Shard(str(tar), tar.stat().st_size)):
            assert sample.error is None
            found[sample.metadata["caption"]] = {"image": sample.image, "json": sample.metadata, "tar": tar.name}
    return found


def test_reserved_images_are_left_unless_that_is_switched_off(web: Web, job: IngestJob, tmp_path: Path) -> None:
    write_list(tmp_path / "list.parquet", web, ["good-0", "reserved-1", "optout-2", "good-3"])
    assert ingest(job).downloaded == 2
    assert ingest(replace(job, out=f"{job.out}-all", opt_out=False)).downloaded == 4


def test_every_url_is_downloaded_or_failed_with_its_reason(web: Web, job: IngestJob, tmp_path: Path) -> None:
    names = ["good-0", "missing-1", "good-2", "broken-3", "optout-4", "slow-5", "large-6", "good-7", "good-8"]
    write_list(tmp_path / "list.parquet", web, names)
    summary = ingest(job)
    assert (summary.rows, summary.downloaded, summary.failed, summary.shards) == (9, 5, 4, 3)
    assert sum(summary.failures.values()) == 4
    assert {"HTTP Error 404", "Use of image disallowed by X-Robots-Tag directive"} <= set(summary.failures)
    found = samples(job.out)
    assert set(found) == {f"picture {name}" for name in names if name[:4] in ("good", "larg")}
    assert found["picture good-0"]["image"] == SMALL  # as it came
    assert found["picture large-6"]["json"]["width"] == 512  # type: ignore[index]
    assert [found[f"picture good-{n}"]["json"]["n"] for n in (0, 2, 7, 8)] == [0, 2, 7, 8]  # type: ignore[index]
    assert all("clipmill" in agent for agent in web.agents)
    for tar in Path(job.out).glob("*.tar"):
        assert pq.read_metadata(tar.with_suffix(".parquet")).num_rows in (4, 1)
        assert json.loads(tar.with_name(f"{tar.stem}_stats.json").read_text())["count"] in (4, 1)
        with tarfile.open(tar) as archive:
            assert all(name.startswith(tar.stem) for name in archive.getnames())


def test_a_second_run_asks_for_nothing_and_a_grown_list_only_for_what_is_new(
    web: Web, job: IngestJob, tmp_path: Path
) -> None:
    write_list(tmp_path / "list.parquet", web, ["good-0", "good-1", "good-2", "good-3", "good-4"])
    ingest(job)
    tars = {tar.name: tar.read_bytes() for tar in Path(job.out).glob("*.tar")}
    asked = Counter(web.asked)
    again = ingest(job)
    assert (again.new_shards, again.shards, again.rows) == (0, 2, 5)
    assert web.asked == asked
    write_list(tmp_path / "list.parquet", web, [f"good-{i}" for i in range(7)])
    grown = ingest(job)
    assert (grown.new_shards, grown.shards, grown.downloaded) == (1, 3, 7)
    assert set(web.asked - asked) == {"/good-5", "/good-6"}
    assert {name: (Path(job.out) / name).read_bytes() for name in tars} == tars
    write_list(tmp_path / "list.parquet", web, ["good-0"])
    with pytest.raises(InputError, match="a list may only grow at its end"):
        ingest(job)


def test_what_failed_is_tried_again_when_asked(web: Web, job: IngestJob, tmp_path: Path) -> None:
    write_list(tmp_path / "list.parquet", web, ["good-0", "missing-1", "broken-2"])
    assert ingest(job).failed == 2
    web.mended = True
    mended = ingest(replace(job, retry_failed=True))
    assert (mended.rows, mended.downloaded, mended.failed, mended.shards) == (3, 2, 1, 2)
    assert web.asked["/good-0"] == 1
    assert "picture missing-1" in samples(job.out)
    settled = ingest(job)
    assert (settled.rows, settled.downloaded, settled.new_shards) == (3, 2, 0)


def test_images_of_another_sha256_are_failures(web: Web, job: IngestJob, tmp_path: Path) -> None:
    write_list(tmp_path / "list.parquet", web, ["good-0", "wrong-1"])
    summary = ingest(replace(job, sha256_column="sum", resize_mode="no"))
    assert (summary.downloaded, summary.failures) == (1, {"hash mismatch": 1})
    with pytest.raises(UserError, match="--retry-failed: shards keep no sha256 of the list"):
        ingest(replace(job, sha256_column="sum", retry_failed=True))


def test_more_failures_than_allowed_are_told_and_lose_nothing(web: Web, job: IngestJob, tmp_path: Path) -> None:
    write_list(tmp_path / "list.parquet", web, ["good-0", "missing-1"])
    with pytest.raises(TooManyFailuresError, match=r"1 of 2 URLs failed: HTTP Error 404 \(1\)"):
        ingest(replace(job, max_failed_samples=0.1))
    assert set(samples(job.out)) == {"picture good-0"}


def test_another_resize_policy_into_the_same_folder_is_refused(web: Web, job: IngestJob, tmp_path: Path) -> None:
    write_list(tmp_path / "list.parquet", web, ["good-0"])
    ingest(job)
    with pytest.raises(PlanMismatchError, match="image size is 256, not 512"):
        ingest(replace(job, image_size=256))


ROWS = {"url": ["http://h/1", "http://h/2"], "caption": ["a", "b, c"]}


@pytest.mark.parametrize("name", ["l.txt", "l.csv", "l.tsv", "l.json", "l.jsonl", "l.parquet", "l.csv.gz", "l.txt.gz"])
def test_every_format_of_lists_is_read(name: str, tmp_path: Path) -> None:
    table, file = pa.table(ROWS), io.BytesIO()
    rows = table.to_pylist()
    kind = name.removesuffix(".gz").rpartition(".")[2]
    if kind in ("csv", "tsv"):
        options = pa.csv.WriteOptions(delimiter="," if kind == "csv" else "\t")
        pa.csv.write_csv(table, file, options)
    elif kind == "parquet":
        pq.write_table(table, file)
    elif kind == "txt":
        file.write("\n".join(ROWS["url"]).encode())
    else:
        text = json.dumps(rows) if kind == "json" else "\n".join(map(json.dumps, rows))
        file.write(text.encode())
    content = file.getvalue()
    (tmp_path / name).write_bytes(gzip.compress(content, mtime=0) if name.endswith(".gz") else content)
    job = IngestJob(str(tmp_path), "out", caption_column=None if kind == "txt" else "caption")
    (found,) = find_lists(job)
    read = read_list(found, job)
    assert read["url"].to_pylist() == ROWS["url"]
    assert kind == "txt" or read["caption"].to_pylist() == ROWS["caption"]


def test_a_json_list_has_the_columns_of_all_its_objects(tmp_path: Path) -> None:
    (tmp_path / "l.json").write_text(json.dumps([{"url": "http://h/1"}, {"url": "http://h/2", "text": "hi"}]))
    read = read_list(str(tmp_path / "l.json"), IngestJob(str(tmp_path / "l.json"), "out", caption_column="text"))
    assert read.to_pylist() == [{"url": "http://h/1", "caption": None}, {"url": "http://h/2", "caption": "hi"}]


@pytest.mark.parametrize(
    ("name", "content", "change", "said"),
    [
        ("l.csv", b"link\nhttp://h/1\n", {}, "has no column 'url'; its columns: link"),
        ("l.csv", b"url\nhttp://h/1\n", {"columns": ("width",)}, "the shards have a field of that name already"),
        ("l.parquet", b"no parquet", {}, "cannot be read as a list of URLs"),
        ("l.jsonl", b"{", {}, "cannot be read as a list of URLs"),
        ("l.json", b'{"url": "a"}', {}, "/l.json: cannot be read as a list of URLs: it must be a list of objects"),
        ("l.json", b'["http://h/1"]', {}, "/l.json: cannot be read as a list of URLs: it must be a list of objects"),
        ("l.json", b'[{"url": ["http://h/1"]}]', {}, "/l.json: cannot be read as a list of URLs"),
        ("l.csv", b"url,url\nhttp://h/1,http://h/2\n", {}, "/l.csv: has 2 columns 'url'; its columns: url, url"),
        ("l.txt.gz", gzip.compress(b"http://h/1", mtime=0)[:-9], {}, "/l.txt.gz: cannot be read as a list of URLs"),
        ("l.exe", b"", {}, "holds no list of URLs"),
    ],
)
def test_what_is_no_list_is_one_line(
    name: str, content: bytes, change: dict[str, object], said: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    job = replace(IngestJob(str(tmp_path), str(tmp_path / "out")), **change)  # type: ignore[arg-type]
    with pytest.raises(InputError) as error:
        ingest(job)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "change", [{"threads": 0}, {"retries": -1}, {"encode_quality": 101}, {"max_aspect_ratio": 0.5}]
)
def test_what_no_run_could_use_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(UserError):
        replace(IngestJob("urls", "out"), **change).check()  # type: ignore[arg-type]
