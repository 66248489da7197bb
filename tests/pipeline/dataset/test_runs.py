"""Who looks at an output is told which runs are at work in it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time

import pytest
from clipmill.pipeline.dataset.claims import shared
from clipmill.pipeline.dataset.lock import Patience
from clipmill.pipeline.dataset.output import Output
from clipmill.pipeline.dataset.runs import RUNS, Holder, at_work


def test_a_run_is_told_of_while_it_is_at_work(output: Output) -> None:
    with shared(output, Patience(renew=0.05)):
        time.sleep(0.3)
        (run,) = at_work(output)
        assert (run.host, run.pid) == (socket.gethostname(), os.getpid())
        assert 0.2 < run.seconds < 20 and run.silent is not None and run.silent < 20
    assert at_work(output) == []


def test_a_run_that_died_on_this_machine_is_not_at_work(output: Output) -> None:
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    output.write(f"{RUNS}/x.json", Holder(socket.gethostname(), int(dead.stdout)).written())
    output.write(f"{RUNS}/y.json", Holder("elsewhere", 1, ended=True).written())
    assert at_work(output) == []


def test_one_of_another_machine_that_has_died_is_silent(output: Output) -> None:
    output.write(f"{RUNS}/x.json", Holder("elsewhere", 1, "2026-11-28 01:00:00 UTC", seconds=60.0).written())
    path = output._local(f"{RUNS}/x.json")
    os.utime(path, (time.time() - 600,) * 2)
    (run,) = at_work(output)
    assert (run.host, run.since) == ("elsewhere", "2026-11-28 01:00:00 UTC")
    assert run.silent == pytest.approx(600, abs=20) and run.seconds == pytest.approx(660, abs=20)


def test_the_file_of_an_earlier_clipmills_run_is_read(output: Output) -> None:
    fields = {"host": "h", "pid": 7, "since": "", "beat": 1, "ended": False, "waits": False, "closed": ["abc"]}
    output.write(f"{RUNS}/x.json", json.dumps(fields).encode())
    (run,) = at_work(output)
    assert (run.host, run.pid) == ("h", 7)
