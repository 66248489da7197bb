"""Waits until the process that started it is gone, then ends what that process left behind.

A program by itself, started by `local_ray.guarded`: `python guardian.py MARK`, stdin a pipe from the guarded process.
It ends those processes in whose environment MARK is, as everything that the guarded process started has inherited it.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

MARK = "CLIPMILL_RUN"  # the environment variable
_GRACE = 0.5  # seconds for those that end by themselves
_LOOKS = 20  # a process that is about to start another may leave one behind


def main(mark: str) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # a terminal sends them to us, too
        signal.signal(number, signal.SIG_IGN)
    if sys.stdin.buffer.read():  # until the other end is closed: by its hand with a word, or by the kernel
        return
    for _ in range(_LOOKS):
        time.sleep(_GRACE)
        left = list(_marked(mark))
        if not left:
            return
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _marked(mark: str) -> Iterator[int]:
    entry = f"{MARK}={mark}".encode()
    for process in Path("/proc").iterdir():
        if process.name.isdecimal():
            with suppress(OSError):  # gone, or somebody else's
                if entry in (process / "environ").read_bytes().split(b"\0"):
                    yield int(process.name)


if __name__ == "__main__":
    main(sys.argv[1])
