"""The whole night as one specification: URLs on the web to shards on object storage, embedded, filtered, resharded and
reported; run here, and submitted to a Ray head that has no clipmill."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from clipmill.jobs.drawn.pairs import PairSpec, pair_of
from console import Console, console, started
from ray_head import TOKEN, Head, ray_head
from s3 import Bucket, S3Server
from web import Web

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

SPEC = PairSpec(seed=11, full_captions=0.0)
GOOD, TROUBLES = 176, {"missing": 8, "slow": 4, "broken": 6, "wrong": 6}
JOB = """
apiVersion: clipmill/v1
kind: pipeline
vars:
  root: "{{ env.ROOT }}"
  options: {endpoint_url: "{{ env.S3 }}", key: "{{ env.S3_KEY }}", secret: "{{ env.S3_SECRET }}"}
steps:
  - name: images
    ingest: {urls: "{{ vars.root }}/urls.parquet", out: "{{ vars.root }}/shards", caption_column: text,
             sha256_column: sum, resize_mode: "no", samples_per_shard: 40, timeout: 7, retries: 0,
             storage_options: "{{ vars.options }}"}
  - name: embeddings
    embed: {inputs: "{{ steps.images.out }}", out: "{{ vars.root }}/embeddings", model: tiny, gpus_per_worker: 0,
            storage_options: "{{ vars.options }}"}
  - name: best
    filter: {dataset: "{{ steps.embeddings.out }}", out: "{{ vars.root }}/best", top_fraction: 0.5,
             storage_options: "{{ vars.options }}"}
  - name: new
    reshard: {source: "{{ steps.best.out }}", out: "{{ vars.root }}/new", samples_per_shard: 40,
              storage_options: "{{ vars.options }}"}
  - name: page
    report: {dataset: "{{ steps.embeddings.out }}", out: "{{ vars.root }}/report.html",
             storage_options: "{{ vars.options }}"}
"""


@pytest.fixture(scope="module")
def web() -> Iterator[Web]:
    images = {str(i): pair_of(SPEC, i).image for i in range(GOOD)}
    web = Web(lambda name: images.get(name, images["0"]))
    web.slowness = 9.0
    yield web
    web.server.shutdown()
    web.server.server_close()


@pytest.fixture(scope="module")
def head(s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    with ray_head(tmp_path_factory.mktemp("head"), **secrets(s3_server)) as head:
        yield head


@pytest.fixture
def clipmill(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Console:
    return console(monkeypatch, capsys)


def secrets(server: S3Server) -> dict[str, str]:
    return {"S3": server.endpoint, "S3_KEY": server.owner.key, "S3_SECRET": server.owner.secret}


def write_urls(bucket: Bucket, web: Web, folder: str, good: int) -> None:
    names = [f"{i}" for i in range(good)]
    names += [f"{kind}-{i}" for kind, count in TROUBLES.items() for i in range(count)] if good == GOOD else []
    sums = [sum_of(pair_of(SPEC, i).image) for i in range(good)] + ["0" * 64] * (len(names) - good)
    captions = [pair_of(SPEC, i).caption for i in range(good)] + ["nothing"] * (len(names) - good)
    columns = {"url": [f"{web.url}/{name}" for name in names], "text": captions, "sum": sums}
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    bucket.storage.pipe_file(f"{bucket.name}/{folder}/urls.parquet", sink.getvalue().to_pybytes())


def sum_of(image: bytes) -> str:
    return hashlib.sha256(image).hexdigest()


def rows(bucket: Bucket, folder: str, columns: list[str]) -> list[dict[str, Any]]:
    """Of all parts, by URL: shards are in the order in which downloads end."""
    found: list[dict[str, Any]] = []
    for name in bucket.storage.glob(f"{bucket.name}/{folder}/*.parquet"):
        with bucket.storage.open(name) as file:
            found += pq.read_table(file, columns=columns).to_pylist()
    return sorted(found, key=lambda row: row["url"])


def test_a_night_here_and_there(
    cluster: None, web: Web, head: Head, bucket: Bucket, clipmill: Console, tmp_path: Path, monkeypatch: Any
) -> None:
    job = tmp_path / "night.yaml"
    job.write_text(JOB)
    for name, value in secrets(bucket.server).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    monkeypatch.setenv("ROOT", bucket.url("here"))
    for folder in ("here", "there"):
        write_urls(bucket, web, folder, GOOD)
    here = clipmill("run", job)
    assert here.code == 0, here.err
    assert f"200 URLs = {GOOD} downloaded + 24 failed" in here.out
    remote = yaml.safe_load(JOB)
    remote["vars"]["root"] = bucket.url("there")
    job.write_text(yaml.safe_dump(remote))
    there = started("submit", job, "--address", head.dashboard)
    assert there.code == 0, there.out + there.err

    columns = ["url", "caption", "sha256", "similarity", "error"]
    mine, theirs = (rows(bucket, f"{folder}/embeddings/data", columns) for folder in ("here", "there"))
    assert len(mine) == GOOD
    assert not any(row["error"] for row in mine)
    assert [row | {"similarity": None} for row in mine] == [row | {"similarity": None} for row in theirs]
    for one, other in zip(mine, theirs, strict=True):
        assert one["similarity"] == pytest.approx(other["similarity"], abs=1e-5)
    kept = rows(bucket, "here/new", ["url", "sha256"])
    assert kept == rows(bucket, "there/new", ["url", "sha256"])
    edge = sorted((row["similarity"] for row in mine), reverse=True)[GOOD // 2]  # and what is at the edge, as DataComp
    assert {row["url"] for row in mine if row["similarity"] >= edge} == {row["url"] for row in kept}
    assert b"<html" in bucket.objects()["here/report.html"]

    # a second run asks the web for nothing, and embeds nothing
    job.write_text(JOB)
    asked, before = dict(web.asked), bucket.objects()
    again = clipmill("run", job)
    assert again.code == 0, again.err
    assert dict(web.asked) == asked
    after = bucket.objects()
    parts = [
        name for name in before if name.startswith(("here/shards/", "here/embeddings/")) and ".clipmill" not in name
    ]
    assert {name: after[name] for name in parts} == {name: before[name] for name in parts}

    # nothing that was written or said holds the secret
    for name, content in after.items():
        assert bucket.server.owner.secret.encode() not in content, name
    for text in (here.out, here.err, there.out, there.err, again.out, again.err):
        assert bucket.server.owner.secret not in text
