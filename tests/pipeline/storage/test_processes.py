"""Whose process has ended is known, whether or not somebody has waited for it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from clipmill.pipeline.dataset.lock import is_dead
from clipmill.pipeline.dataset.runs import Holder
from clipmill.pipeline.storage import staging
from clipmill.pipeline.storage.processes import is_alive

LINUX = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="where there is no /proc, zombies are unknown")


@pytest.fixture
def ended() -> Iterator[subprocess.Popen[bytes]]:
    """A process that has ended, and for which nobody has waited."""
    process = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.read() == b""  # closed by its end
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    yield process
    process.wait()


@LINUX
def test_a_process_that_nobody_has_waited_for_is_not_alive(ended: subprocess.Popen[bytes]) -> None:
    assert not is_alive(ended.pid)
    ended.wait()
    assert not is_alive(ended.pid)


def test_this_process_and_the_first_are_alive() -> None:
    assert is_alive(os.getpid()) and is_alive(1)


def test_a_number_that_no_process_has_is_not_alive() -> None:
    assert not is_alive(10**30)


@LINUX
def test_what_such_a_process_has_not_finished_is_removed(ended: subprocess.Popen[bytes], tmp_path: Path) -> None:
    mine = staging.unfinished(tmp_path, "data/a.parquet")
    _, pid, rest = mine.name.split(".", 2)
    theirs = mine.with_name(mine.name.replace(f".{pid}.{rest}", f".{ended.pid}.{rest}"))
    mine.touch()
    theirs.touch()
    staging.clear(tmp_path)
    assert mine.exists() and not theirs.exists()


@LINUX
def test_a_run_of_such_a_process_is_dead(ended: subprocess.Popen[bytes]) -> None:
    host = Holder.read(b"").host
    assert not is_dead(host, ended.pid)  # another machine's
    assert is_dead(os.uname().nodename, ended.pid) and not is_dead(os.uname().nodename, os.getpid())
