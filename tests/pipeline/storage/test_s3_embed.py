"""The main job from a real object store to it: the same rows as on local disks, whatever the network does."""

from __future__ import annotations

import io
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import ray
import two_nodes
from clipmill.clipmodel.weights import Loaded
from clipmill.jobs.cli import main
from clipmill.pipeline import EmbedJob, embed
from clipmill.pipeline.dataset.layout import OWN
from clipmill.pipeline.dataset.output import Output
from clipmill.pipeline.dataset.summary import Summary
from clipmill.pipeline.embedding.embed_shard import embed_shard
from clipmill.pipeline.embedding.shard_reader import InputOptions
from clipmill.pipeline.inputs.listing import list_shards
from clipmill.pipeline.running import embed as module
from clipmill.pipeline.storage.defaults import with_defaults
from clipmill.pipeline.storage.retry import retry
from committing import IMPATIENT, through
from fakes import Drawn, clip_tools, fake_decoder, fake_tools, threaded, write_pairs
from proxy import Faults, Proxy, proxy
from s3 import Bucket, S3Server

SHARDS = 24

Rows = list[dict[str, Any]]


def start(*arguments: str) -> subprocess.Popen[str]:
    """`clipmill …` in a process of its own."""
    command = [sys.executable, "-m", "clipmill.jobs.cli", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def flags(options: Mapping[str, str]) -> list[str]:
    return [f"--storage-option={name}={value}" for name, value in options.items()]


def rows_of(files: list[Any]) -> Rows:
    """Of all parts, in the order of shard and row; shards by their names, as they are elsewhere here and there."""
    rows = [row for file in files for row in pq.read_table(file).to_pylist()]
    named = [row | {"shard": PurePosixPath(row["shard"]).name} for row in rows]
    return sorted(named, key=lambda row: (row["shard"], row["row"]))


@pytest.fixture(scope="session")
def expected(sharp: Loaded, drawn: Drawn, tmp_path_factory: pytest.TempPathFactory) -> Rows:
    """From a local folder to another, without a cluster."""
    out = tmp_path_factory.mktemp("local")
    for shard in drawn.shards:
        embed_shard(shard, clip_tools(sharp), Output.at(str(out)))
    return rows_of(sorted(out.glob("data/*.parquet")))


def job_in(bucket: Bucket, net: Proxy, drawn: Drawn, weights: Path) -> EmbedJob:
    """From the bucket, where it puts the drawn shards, to the bucket; all of it through the proxy. As storage options,
    since Ray's workers know nothing of our environment."""
    for tar in drawn.tars:
        bucket.storage.put_file(str(tar), bucket.url(f"in/{tar.name}"))
    options = with_defaults("s3", bucket.server.options(net.endpoint))
    return EmbedJob([bucket.url("in")], bucket.url("out"), f"tiny={weights}", workers=2, storage_options=options)


@pytest.fixture
def job(cluster: None, bucket: Bucket, net: Proxy, drawn: Drawn, sharp_weights: Path) -> EmbedJob:
    return job_in(bucket, net, drawn, sharp_weights)


@dataclass(frozen=True)
class Ran:
    job: EmbedJob
    summary: Summary
    bucket: Bucket
    net: Proxy
    reads: Counter[str]  # GETs by object, while it ran

    def reads_since(self) -> Counter[str]:
        return Counter(
            each.path.removeprefix(f"/{self.bucket.name}/") for each in self.net.seen if each.method == "GET"
        )


@pytest.fixture(scope="module")
def ran(cluster: None, s3_server: S3Server, drawn: Drawn, sharp_weights: Path) -> Iterator[Ran]:
    """A run from the store to it."""
    bucket = Bucket.fresh(s3_server)
    with proxy(s3_server.endpoint) as net:
        job = job_in(bucket, net, drawn, sharp_weights)
        ran = Ran(job, embed(job), bucket, net, Counter())
        ran.reads.update(ran.reads_since())
        yield ran


def check_whole(bucket: Bucket, expected: Rows) -> None:
    """Every row once, and no object more than there should be."""
    objects = {key.removeprefix("out/"): data for key, data in bucket.objects().items() if key.startswith("out/")}
    parts = sorted(key for key in objects if key.startswith("data/"))
    assert {key for key in objects if key not in parts and not key.startswith(f"{OWN}/")} == set()
    assert {PurePosixPath(key).suffix for key in objects if key.startswith(f"{OWN}/")} <= {
        ".json",
        ".parquet",
        ".jsonl",
        "",  # _SUCCESS
    }
    assert bucket.uploads() == []

    assert [part.removeprefix("data/").rpartition("-")[0] for part in parts] == sorted(
        {Path(row["shard"]).stem for row in expected}
    )
    for there, here in zip(rows_of([io.BytesIO(objects[part]) for part in parts]), expected, strict=True):
        for name, value in here.items():
            if isinstance(value, list):  # float16, which threads round differently
                assert np.abs(np.subtract(there[name], value)).max() <= 1e-3
            else:
                assert there[name] == (pytest.approx(value, abs=1e-5) if name == "similarity" else value)


def test_rows_are_those_of_local_disks(ran: Ran, expected: Rows) -> None:
    assert ran.summary.complete and ran.summary.dataset.rows == len(expected) == 120
    check_whole(ran.bucket, expected)
    assert {name for name in ran.reads if name.startswith("in/0")} == {f"in/0000{i}.tar" for i in range(3)}


def test_running_again_reads_no_shard_and_no_part(ran: Ran, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "run_shards", None)
    before = ran.bucket.objects()
    ran.net.seen.clear()
    again = embed(ran.job)
    assert (again.complete, again.done_before, again.workers) == (True, 3, 0)
    assert again.dataset == ran.summary.dataset
    assert not any(name.startswith(("in/0", "out/data/")) for name in ran.reads_since())
    assert ran.bucket.objects() == before


def test_resuming_reads_only_what_is_missing(ran: Ran, expected: Rows) -> None:
    before = ran.bucket.objects()
    (lost,) = [key for key in before if key.startswith("out/data/00001-")]
    ran.bucket.storage.rm_file(ran.bucket.url(lost))
    ran.net.seen.clear()
    resumed = embed(ran.job)
    assert (resumed.complete, resumed.done_before, resumed.run.shards) == (True, 2, 1)
    assert {name for name in ran.reads_since() if name.startswith(("in/0", "out/data/"))} == {"in/00001.tar"}
    after = ran.bucket.objects()
    changed = {key for key in before if before[key] != after[key]} - {lost}
    assert all(key.startswith(f"out/{OWN}/") for key in changed)
    check_whole(ran.bucket, expected)


@pytest.mark.long
def test_a_bad_network_changes_nothing(job: EmbedJob, bucket: Bucket, net: Proxy, expected: Rows) -> None:
    net.faults = Faults(slow_down=0.2, cut=0.1, lose_put=10, seed=9)
    assert embed(job).complete
    assert net.count(status=503) >= 5 and sum(not each.answered for each in net.seen) >= 5
    check_whole(bucket, expected)


def test_many_shards_over_a_bad_network_without_the_clients_own_patience(
    bucket: Bucket, net: Proxy, tmp_path: Path
) -> None:
    local, there = Output.at(str(tmp_path / "out")), through(net, bucket, **IMPATIENT)
    net.faults = Faults(slow_down=0.2, cut=0.1, lose_put=10, seed=28)
    options = there.storage_options
    for i in range(SHARDS):
        shard = write_pairs(tmp_path / f"{i:02d}.tar", 5)
        bucket.storage.put_file(shard.url, bucket.url(f"in/{i:02d}.tar"))
        embed_shard(shard, fake_tools(), local)
    shards = retry(lambda: list_shards([bucket.url("in")], options))
    there = there.prepare()
    source = threaded(fake_decoder(), inputs=InputOptions(storage=options))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda shard: embed_shard(shard, fake_tools(reader=source), there), shards))
    parts = [io.BytesIO(data) for key, data in sorted(bucket.objects().items()) if key.startswith("out/")]
    assert rows_of(parts) == rows_of(sorted((tmp_path / "out").glob("data/*.parquet")))
    assert len(parts) == SHARDS and net.count("PUT", status=412) > 1
    assert net.count(status=503) >= 5 and sum(not each.answered for each in net.seen) >= 5


def test_a_store_that_ignores_conditions_changes_nothing(
    job: EmbedJob, bucket: Bucket, net: Proxy, expected: Rows
) -> None:
    net.faults = Faults(ignore_conditions=bucket.server.owner)
    assert embed(job).complete
    check_whole(bucket, expected)


@pytest.mark.long
def test_two_drivers_at_once_both_succeed(job: EmbedJob, bucket: Bucket, net: Proxy, expected: Rows) -> None:
    net.faults = Faults(latency=0.1)
    address = ray.get_runtime_context().gcs_address
    options = flags(bucket.server.options(net.endpoint))
    command = ["embed", *job.inputs, "-o", job.out, "-m", job.model, "--address", address, "--workers", "1"]
    drivers = [start(*command, *options) for _ in range(2)]
    said = [driver.communicate(timeout=300) for driver in drivers]
    assert [driver.returncode for driver in drivers] == [0, 0], said
    check_whole(bucket, expected)


@pytest.mark.long
def test_the_environment_is_enough_for_the_command(job: EmbedJob, bucket: Bucket, expected: Rows) -> None:
    inputs, out = bucket.url("in/{00000..00002}.tar"), bucket.url("out")
    process = start("embed", inputs, "-o", out, "-m", job.model, "--address", "local")
    _, complained = process.communicate(timeout=300)
    assert process.returncode == 0, complained
    check_whole(bucket, expected)


@pytest.mark.long
def test_two_machines_write_the_same_rows(job: EmbedJob, bucket: Bucket, expected: Rows) -> None:
    script = Path(two_nodes.__file__)
    command = [sys.executable, str(script), *job.inputs, job.out, job.model]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "machines: 2" in ran.stdout
    check_whole(bucket, expected)


@pytest.mark.parametrize("side", ["in", "out"])
def test_a_bucket_that_cannot_be_used_is_one_line_and_exit_2(
    side: str, bucket: Bucket, drawn: Drawn, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "connected", None)  # it does not come to that
    stranger = flags(bucket.server.options(account=bucket.server.stranger))
    bucket.storage.pipe_file(bucket.url("in/00000.tar"), drawn.tars[0].read_bytes())
    cases = [("s3://no-such-bucket/x", [], "no such file or folder" if side == "in" else "there is no s3://no-such-")]
    if bucket.server.is_ceph:  # moto lets everybody in
        cases.append((bucket.url("in"), stranger, "permission denied; check its access rights or your credentials"))
    for url, more, said in cases:
        inputs, out = (url, bucket.url("out")) if side == "in" else (str(drawn.folder), url)
        monkeypatch.setattr(sys, "argv", ["clipmill", "embed", inputs, "-o", out, "-m", "tiny=random:1", *more])
        with pytest.raises(SystemExit) as ended:
            main()
        printed, complained = capsys.readouterr()
        assert (ended.value.code, printed) == (2, "")
        (line,) = complained.splitlines()
        assert line.startswith(f"clipmill: {url}") and said in line


def test_the_job_asks_the_store_once_what_it_can_do(
    job: EmbedJob, bucket: Bucket, net: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And tells the workers."""
    told: list[bool] = []

    def run_shards(_: Any, settings: Any, *__: Any, **___: Any) -> Iterator[Any]:
        told.append(settings.output.conditional)
        return iter(())

    monkeypatch.setattr(module, "run_shards", run_shards)
    embed(job)
    assert told == [True]
