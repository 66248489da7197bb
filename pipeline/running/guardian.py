"""Waits until the process that started it is gone, then ends what that process left behind.

A program by itself, started by `local_ray.guarded`, stdin a pipe from the guarded process. It remembers that process's
descendants while they can be told: once their parents are gone they are anybody's, and Ray's processes change their
titles and environments.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

_GRACE = 0.5  # seconds for those that end by themselves
_STARTING = 60.0  # seconds in which a run starts most of its processes
_LOOK, _LATER = 0.5, 10.0  # seconds between two looks, then and afterwards


class _Process(NamedTuple):
    parent: int
    started: str  # with the id it names a process for good: ids are used again


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # a terminal sends them to us, too
        signal.signal(number, signal.SIG_IGN)
    guarded, began = os.getppid(), time.monotonic()
    known: dict[int, _Process] = {}
    while True:
        known |= _descendants(guarded, _processes())
        pause = _LOOK if time.monotonic() - began < _STARTING else _LATER
        if select.select([0], [], [], pause)[0]:
            break
    if os.read(0, 1):  # a word before the other end was closed: all is well
        return
    time.sleep(_GRACE)
    alive = _processes()
    for pid, process in known.items():
        if pid in alive and alive[pid].started == process.started and pid != os.getpid():
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)


def _descendants(ancestor: int, processes: Mapping[int, _Process]) -> dict[int, _Process]:
    found: dict[int, _Process] = {}
    parents = {ancestor}
    while parents:
        children = {pid: process for pid, process in processes.items() if process.parent in parents}
        found |= children
        parents = set(children)
    return found


def _processes() -> dict[int, _Process]:
    """All that this machine shows, by id."""
    processes = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with suppress(OSError):  # gone meanwhile
                fields = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
                processes[int(folder.name)] = _Process(int(fields[1]), fields[19])
    return processes


if __name__ == "__main__":
    main()
