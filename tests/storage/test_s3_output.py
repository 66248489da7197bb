"""The output on a real object store, through a network that does everything networks do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from clipmill.pipeline import store
from clipmill.pipeline.errors import InfrastructureError, OutputError
from clipmill.pipeline.output import Output
from clipmill.pipeline.storage_defaults import with_defaults
from proxy import Faults, Proxy, proxy
from s3 import REGION, Bucket

PART = "shard-01234567.parquet"
PIECE = 5 << 20  # bytes; S3 takes no smaller ones

# Builds a part of PIECES pieces, says so, and on a line of input commits it.
WRITER = f"""
import sys
from clipmill.pipeline import store
from clipmill.pipeline.output import Output
store._ONE_PUT = store._PIECE = {PIECE}
with Output.at(sys.argv[1], {{"endpoint_url": sys.argv[2]}}).staged("{PART}") as path:
    path.write_bytes(b"x" * int(sys.argv[3]))
    print("begun", flush=True)
    sys.stdin.readline()
"""

# Faults are told from errors by trying again without waiting for long, and without the client's own attempts.
IMPATIENT = {"config_kwargs": {"retries": {"mode": "standard", "total_max_attempts": 1}}}


@pytest.fixture
def net(bucket: Bucket) -> Iterator[Proxy]:
    """The way to the store. Harmless until a test says otherwise."""
    with proxy(bucket.server.endpoint) as running:
        yield running


@pytest.fixture
def output(bucket: Bucket, net: Proxy) -> Output:
    return through(net, bucket)


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for what is built before it is put."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path / f"clipmill-{os.getuid()}"


def through(net: Proxy, bucket: Bucket, **options: Any) -> Output:
    settings = bucket.server.options(net.endpoint) | options
    return Output.at(bucket.url("out"), with_defaults("s3", settings))


def commit(output: Output, content: bytes, name: str = PART, **how: bool) -> None:
    with output.staged(name, **how) as path:
        path.write_bytes(content)


def until(true: Callable[[], Any], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "in vain"
        time.sleep(0.02)


# --- one request, one winner -----------------------------------------------------------------------------------------


def test_a_part_is_one_request(output: Output, net: Proxy, bucket: Bucket) -> None:
    commit(output, b"whole" * 1_000_000)
    assert [(each.method, each.path) for each in net.seen] == [("PUT", f"/{bucket.name}/out/{PART}")]
    assert bucket.objects() == {f"out/{PART}": b"whole" * 1_000_000}


def test_the_store_is_asked_once_what_it_can_do(output: Output, net: Proxy, bucket: Bucket) -> None:
    assert not output.conditional and output.prepare().conditional
    assert len(net.seen) <= 6 and bucket.objects() == {}
    assert net.count("PUT", status=412) == 1


def test_of_sixteen_writers_one_wins_and_all_are_content(output: Output, net: Proxy, bucket: Bucket) -> None:
    output = output.prepare()
    net.seen.clear()
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda i: commit(output, f"by {i:02d}".encode() * 10_000), range(16)))
    won = Counter(each.status for each in net.seen)
    assert won == {200: 1, 412: 15} if bucket.server.is_ceph else won[200] >= 1  # moto looks, then writes
    (content,) = bucket.objects().values()
    assert content == content[:5] * 10_000


def test_the_first_part_stays_unless_it_is_to_be_replaced(output: Output, bucket: Bucket) -> None:
    output = output.prepare()
    commit(output, b"first")
    commit(output, b"second")
    assert bucket.objects() == {f"out/{PART}": b"first"}
    commit(output, b"third", replace=True)
    assert bucket.objects() == {f"out/{PART}": b"third"}


def test_other_files_are_always_written_anew(output: Output, bucket: Bucket) -> None:
    output = output.prepare()
    for content in (b"one", b"two"):
        output.write("_SUCCESS", content)
    assert bucket.objects() == {"out/_SUCCESS": b"two"}


def test_a_store_that_ignores_the_condition_gets_the_part_twice(output: Output, net: Proxy, bucket: Bucket) -> None:
    net.faults = Faults(ignore_conditions=bucket.server.owner)
    prepared = output.prepare()
    assert not prepared.conditional and bucket.objects() == {}
    for each in (prepared, replace(output, conditional=True)):  # as when it honoured the condition at the start only
        commit(each, b"same")
        assert bucket.objects() == {f"out/{PART}": b"same"}


# --- a bad network ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("conditional", [True, False])
def test_a_lost_answer_to_a_put_that_took_effect_is_no_error(
    conditional: bool, output: Output, net: Proxy, bucket: Bucket
) -> None:
    net.faults = Faults(lose_put=2)
    output.write("a", b"")  # the first PUT; the second one's answer is lost
    net.seen.clear()
    commit(replace(output, conditional=conditional), b"whole")
    assert bucket.objects() == {"out/a": b"", f"out/{PART}": b"whole"}
    assert [(each.status, each.answered) for each in net.seen] == [(200, False), (412 if conditional else 200, True)]


def test_all_calls_work_where_a_fifth_is_refused_and_a_tenth_breaks_off(
    bucket: Bucket, net: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    net.faults = Faults(slow_down=0.2, cut=0.1, lose_put=10, seed=5)
    output = through(net, bucket, **IMPATIENT).prepare()  # the client would hide most of it
    names = [f"{i:02d}-01234567.parquet" for i in range(20)]
    for name in names:
        commit(output, name.encode() * 1000, name)
        output.write(f"_clipmill/{name}", b"two")
        assert output.read(name) == name.encode() * 1000
        with output.open(name) as file:
            file.seek(-100, os.SEEK_END)
            assert file.read() == (name.encode() * 1000)[-100:]
    assert output.parts() == output.names("_clipmill") == set(names)
    for name in names:
        output.delete(f"_clipmill/{name}")
    assert output.names("_clipmill") == set()
    assert bucket.objects() == {f"out/{name}": name.encode() * 1000 for name in names}
    assert net.count(status=503) > 20 and sum(not each.answered for each in net.seen) > 10


def test_a_store_that_keeps_failing_is_told_in_one_line(
    bucket: Bucket, net: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = through(net, bucket, **IMPATIENT)
    storage = output._storage()
    monkeypatch.setattr(storage, "retries", 1)
    monkeypatch.setattr("clipmill.pipeline.retry._FIRST", 0.001)
    net.faults = Faults(slow_down=1)
    for call in (output.prepare, output.parts, lambda: output.read("a"), lambda: commit(output, b"x")):
        with pytest.raises(InfrastructureError) as caught:
            call()
        assert "\n" not in str(caught.value) and bucket.url("out") in str(caught.value)
        assert "the storage keeps failing: S" in str(caught.value)  # Slow down; Service Unavailable
    assert net.count("PUT") >= 16 and bucket.objects() == {}


# --- what crashes leave ----------------------------------------------------------------------------------------------


@contextmanager
def writing(net: Proxy, bucket: Bucket, size: int) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has built a part and waits to be told to commit it."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, bucket.url("out"), net.endpoint, str(size)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout and process.stdout.readline() == b"begun\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def go(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin
    process.stdin.write(b"\n")
    process.stdin.flush()


def test_a_writer_killed_while_it_builds_a_part_leaves_no_object(
    output: Output, net: Proxy, bucket: Bucket, scratch: Path
) -> None:
    with writing(net, bucket, 100) as process:
        (left,) = scratch.iterdir()
        output.prepare()
        assert left.exists()  # a living process's
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert bucket.objects() == {} and left.exists()
    fresh = subprocess.run(  # the next process that has something to build
        [sys.executable, "-c", "from clipmill.pipeline.staging import scratch; print(*scratch().iterdir())"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert fresh.stdout == "\n" and not left.exists()


def test_a_large_part_goes_up_in_pieces(
    output: Output, net: Proxy, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_ONE_PUT", PIECE)
    monkeypatch.setattr(store, "_PIECE", PIECE)
    output = output.prepare()
    commit(output, b"0123456789" * (PIECE // 4))
    assert bucket.objects() == {f"out/{PART}": b"0123456789" * (PIECE // 4)}
    assert net.count("PUT", f"/{bucket.name}/out/{PART}") == 3 and bucket.uploads() == []


def test_a_writer_killed_while_it_uploads_leaves_nothing_to_the_next_run(
    output: Output, net: Proxy, bucket: Bucket, scratch: Path
) -> None:
    others = ["other/" + PART, "out/deeper/" + PART, "out/notes.bin"]
    for key in others:
        bucket.storage.call_s3("create_multipart_upload", Bucket=bucket.name, Key=key)
    with writing(net, bucket, 4 * PIECE) as process:
        net.faults = Faults(latency=0.5)
        go(process)
        until(lambda: f"out/{PART}" in bucket.uploads())
        process.send_signal(signal.SIGKILL)
        process.wait()
    net.faults = Faults()
    assert bucket.objects() == {} and output.parts() == set()
    output.prepare()
    assert sorted(bucket.uploads()) == others  # those are not ours


def test_a_living_writer_whose_upload_is_cleared_away_begins_again(
    output: Output, net: Proxy, bucket: Bucket, scratch: Path
) -> None:
    with writing(net, bucket, 3 * PIECE) as process:
        net.faults = Faults(latency=0.5)
        go(process)
        until(lambda: bucket.uploads() == [f"out/{PART}"])
        Output.at(bucket.url("out")).prepare()  # another driver's, which cannot know
        net.faults = Faults()
        assert process.wait(60) == 0
    assert sum(each.method == "POST" and each.query == "uploads" for each in net.seen) == 2
    assert bucket.objects() == {f"out/{PART}": b"x" * 3 * PIECE}
    assert bucket.uploads() == [] and list(scratch.iterdir()) == []


def test_an_interrupted_check_of_the_store_is_cleared_up_after(output: Output, bucket: Bucket) -> None:
    bucket.storage.pipe_file(bucket.url("out/_clipmill/probe"), b"")
    assert output.prepare().conditional
    assert bucket.objects() == {}


# --- outputs that are none -------------------------------------------------------------------------------------------


def refusal(call: Callable[[], Any]) -> str:
    with pytest.raises(OutputError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_bucket_that_is_not_there_is_named(bucket: Bucket) -> None:
    output = Output.at("s3://no-such-bucket/out")
    said = "s3://no-such-bucket/out: cannot be written to: there is no s3://no-such-bucket"
    assert output.parts() == set() and output.read("a") is None
    assert refusal(output.prepare) == refusal(lambda: commit(output, b"x")) == said


def test_somebody_elses_bucket_is_refused(bucket: Bucket) -> None:
    if not bucket.server.is_ceph:
        pytest.skip("moto lets everybody in")
    options = bucket.server.options(account=bucket.server.stranger)
    output = Output.at(bucket.url("out"), options)
    said = "permission denied; check its access rights or your credentials"
    assert refusal(output.prepare) == refusal(lambda: commit(output, b"x"))
    assert refusal(output.prepare) == f"{output.url}: cannot be written to: {said}"
    assert refusal(output.parts) == f"{output.url}: cannot be listed: {said}"
    assert said in refusal(Output.at(bucket.url("out"), options | {"key": "nobody"}).prepare)


def test_missing_credentials_are_asked_for(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    output = Output.at(bucket.url("out"), {"endpoint_url": bucket.server.endpoint})
    assert "credentials" in refusal(output.prepare)


def test_an_endpoint_where_nobody_listens_is_no_endless_wait(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clipmill.pipeline.retry._FIRST", 0.001)
    output = Output.at(bucket.url("out"), IMPATIENT | bucket.server.options("http://127.0.0.1:1"))
    with pytest.raises(InfrastructureError, match=r"Could not connect to the endpoint URL"):
        output.prepare()


# --- how clients behave ----------------------------------------------------------------------------------------------


def test_what_the_user_says_goes_before_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_RETRY_MODE", "AWS_MAX_ATTEMPTS"):
        monkeypatch.delenv(name, raising=False)
    ours = with_defaults("s3", {"key": "k"})
    assert ours["key"] == "k" and set(ours["config_kwargs"]) == {"connect_timeout", "read_timeout", "retries"}
    given = {"config_kwargs": {"read_timeout": 5, "region_name": REGION}, "use_listings_cache": True}
    theirs = with_defaults("s3", given)
    assert theirs["config_kwargs"] == ours["config_kwargs"] | given["config_kwargs"] and theirs["use_listings_cache"]
    assert given == {"config_kwargs": {"read_timeout": 5, "region_name": REGION}, "use_listings_cache": True}
    monkeypatch.setenv("AWS_RETRY_MODE", "adaptive")
    assert "retries" not in with_defaults("s3", {})["config_kwargs"]
    assert with_defaults("memory", {"a": 1}) == {"a": 1}
