"""Calls that are killed at some moment. A script imports everything once, and kills children of its own: that is
quicker than ten processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable


def forked(call: Callable[[], object], seconds: float | None = None) -> tuple[float, bool]:
    """Call it in a child. How many seconds it took, and whether it was killed for taking longer than these."""
    child = os.fork()
    if not child:
        call()
        os._exit(0)
    began, ended = time.monotonic(), 0
    while not ended and (seconds is None or time.monotonic() - began < seconds):
        ended = os.waitpid(child, os.WNOHANG)[0]
        time.sleep(0.001)
    if not ended:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return time.monotonic() - began, not ended


def number_printed(script: str, *arguments: str) -> int:
    """What a script with these arguments prints, which may import all that tests import; it must succeed."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-c", script, *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=environment)
    assert ran.returncode == 0, ran.stderr
    return int(ran.stdout)
