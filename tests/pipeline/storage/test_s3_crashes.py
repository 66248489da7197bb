"""What killed writers leave in an object store, and beside it: nothing that the next run does not clear."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from clipmill.pipeline.dataset.output import Output
from clipmill.pipeline.storage import store
from committing import PART, commit
from proxy import Faults, Proxy
from s3 import Bucket

PIECE = 5 << 20  # bytes; S3 takes no smaller ones

# Builds a part of so many bytes, says so, and on a line of input commits it.
WRITER = f"""
import sys
from clipmill.pipeline.storage import store
from clipmill.pipeline.dataset.output import Output
store._ONE_PUT = store._PIECE = {PIECE}
with Output.at(sys.argv[1], {{"endpoint_url": sys.argv[2]}}).staged("{PART}") as path:
    path.write_bytes(b"x" * int(sys.argv[3]))
    print("begun", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for what is built before it is put."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path / f"clipmill-{os.getuid()}"


def until(true: Callable[[], Any], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "in vain"
        time.sleep(0.02)


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
        [sys.executable, "-c", "from clipmill.pipeline.storage.staging import scratch; print(*scratch().iterdir())"],
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
        assert process.wait(200) == 0
    assert sum(each.method == "POST" and each.query == "uploads" for each in net.seen) == 2
    assert bucket.objects() == {f"out/{PART}": b"x" * 3 * PIECE}
    assert bucket.uploads() == [] and list(scratch.iterdir()) == []


def test_an_interrupted_check_of_the_store_is_cleared_up_after(output: Output, bucket: Bucket) -> None:
    bucket.storage.pipe_file(bucket.url("out/.clipmill/probe"), b"")
    assert output.prepare().conditional
    assert bucket.objects() == {}
