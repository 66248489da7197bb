"""A disk or a store without room ends a run at once, with one line; what is committed stays."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clipmill.pipeline import EmbedJob, embed
from clipmill.pipeline.dataset.output import Output
from clipmill.pipeline.errors import StorageFullError
from clipmill.pipeline.running.events import ShardDone
from fakes import write_pairs
from needs import may_skip
from proxy import Faults, Proxy, proxy
from s3 import Bucket, S3Server


@pytest.fixture
def many(tmp_path: Path) -> Path:
    for number in range(12):
        (tmp_path / "in").mkdir(exist_ok=True)
        write_pairs(tmp_path / "in" / f"{number:02d}.tar", 20)
    return tmp_path / "in"


def mounted(folder: Path, options: str, command: str) -> subprocess.CompletedProcess[str]:
    """A shell command beside a small disk in memory, in a mount namespace of its own."""
    folder.mkdir()
    inside = ["sh", "-c", f"mount -t tmpfs -o {options} none {folder} && {command}"]
    ran = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", *inside], capture_output=True, text=True, timeout=400
    )
    if ran.stderr.startswith("unshare:") and may_skip():
        pytest.skip("needs user namespaces")
    return ran


def test_a_full_disk(many: Path, tmp_path: Path) -> None:
    full = tmp_path / "full"
    command = f"{sys.executable} -m clipmill.jobs.cli embed {many} -o {full}/out -m tiny --address local --workers 1"
    ran = mounted(full, "size=160k", f"{command}; code=$?; ls {full}/out/data | wc -l; exit $code")
    assert ran.returncode == 1, ran.stderr
    notices = [line for line in ran.stderr.splitlines() if "model tiny" not in line]
    assert notices == [f"clipmill: {full}/out: no space left on device; make room, then run the same command to go on"]
    assert 0 < int(ran.stdout.split()[-1]) < 12


@pytest.mark.parametrize("command", ["embed {many}", "ingest urls.txt"])
def test_a_read_only_disk(command: str, many: Path, tmp_path: Path) -> None:
    (tmp_path / "urls.txt").write_text("http://127.0.0.1:9/a.jpg\n")
    there = tmp_path / "there"
    words = f"cd {tmp_path} && {sys.executable} -m clipmill.jobs.cli {command.format(many=many)} -o {there}/out"
    ran = mounted(there, "ro", words + (" -m tiny" if "embed" in command else ""))
    assert ran.returncode == 2
    assert ran.stderr == f"clipmill: {there}/out: cannot be written to: Read-only file system\n"


@pytest.fixture
def net(s3_server: S3Server) -> Iterator[Proxy]:
    with proxy(s3_server.endpoint) as net:
        yield net


@pytest.mark.parametrize("answer", [(403, "QuotaExceeded"), (507, "XMinioStorageFull"), (507, "Other")])
def test_a_stores_quota(
    answer: tuple[int, str], cluster: None, many: Path, bucket: Bucket, net: Proxy, sharp_weights: Path
) -> None:
    options = bucket.server.options(net.endpoint)
    job = EmbedJob([str(many)], bucket.url("out"), f"tiny={sharp_weights}", workers=1, storage_options=options)
    events: list[Any] = []

    def see(event: Any) -> None:
        events.append(event)
        if isinstance(event, ShardDone):
            net.faults = Faults(full=answer)

    with pytest.raises(StorageFullError, match="make room, then run the same command to go on") as error:
        embed(job, see)
    assert "\n" not in str(error.value) and error.value.exit_code == 1
    assert not any(event.name in ("shard failed", "shard tried again") for event in events)
    assert net.count("PUT", f"/{bucket.name}/out/data/", answer[0]) <= 3  # of those in hand, each once
    assert 0 < len(Output.at(job.out, options).parts()) < 12
    net.faults = Faults()
    assert embed(job).complete
