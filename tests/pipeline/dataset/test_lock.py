"""The lock: one at a time, replaced when its holder died or no longer renews it, and never in the way otherwise."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from clipmill.pipeline.dataset.lock import LOCK, LockedError, Patience, held
from clipmill.pipeline.dataset.output import Output

QUICK = Patience(renew=0.1, expires=0.8, look=0.05)


@pytest.fixture
def output(tmp_path: Path) -> Output:
    return Output.at(str(tmp_path / "out")).prepare()


def lock_of(output: Output, **changes: object) -> None:
    content = {"owner": "x", "host": "elsewhere", "pid": 1, "beat": 0} | changes
    output.write(LOCK, json.dumps(content).encode())


def test_while_it_is_held_and_renewed_nobody_else_gets_it(output: Output) -> None:
    with held(output, QUICK):
        with pytest.raises(LockedError, match="another run is at work there") as error, held(output, QUICK):
            pass
        assert error.value.exit_code == 0
    assert output.read(LOCK) is None


def test_it_is_free_again_after_an_exception(output: Output) -> None:
    with pytest.raises(ZeroDivisionError), held(output, QUICK):
        _ = 1 / 0
    with held(output, QUICK):
        pass


def test_one_that_is_not_renewed_expires(output: Output) -> None:
    lock_of(output)
    began = time.monotonic()
    with held(output, QUICK):
        assert time.monotonic() - began >= QUICK.expires


def test_one_whose_process_died_on_this_machine_is_replaced_at_once(output: Output) -> None:
    import socket

    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    lock_of(output, host=socket.gethostname(), pid=process.pid)
    with held(output, Patience(expires=3600)):
        pass


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"owner": 3}'])
def test_a_damaged_one_expires_too(content: bytes, output: Output) -> None:
    output.write(LOCK, content)
    with held(output, QUICK):
        pass


def test_whoever_was_taken_for_dead_leaves_the_new_holders_lock_alone(output: Output) -> None:
    entered, leave = threading.Event(), threading.Event()

    def first() -> None:
        with held(output, Patience(renew=3600)):  # hangs
            entered.set()
            leave.wait(20)

    thread = threading.Thread(target=first)
    thread.start()
    entered.wait(20)
    lock_of(output, owner="second")
    leave.set()
    thread.join()
    assert b"second" in (output.read(LOCK) or b"")
