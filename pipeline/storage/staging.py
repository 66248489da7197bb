"""Unfinished files on local disks. Their names say which process writes them, so that leftovers are known."""

from __future__ import annotations

import os
import socket
import tempfile
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

from .processes import is_alive

_ABANDONED = 24 * 3600  # seconds after which another machine's unfinished file counts as abandoned


def unfinished(folder: Path, name: str) -> Path:
    """A new path in `folder` where this process writes the file that will be called `name`."""
    return folder / f"{_host()}.{os.getpid()}.{time.monotonic_ns()}.{name.rpartition('/')[2]}"


def clear(folder: Path) -> None:
    """Remove unfinished files whose writer is gone: on this machine by looking for the process, on others by age."""
    for path in folder.iterdir():
        host, _, rest = path.name.partition(".")
        pid = rest.partition(".")[0]
        with suppress(OSError):
            if host == _host() and pid.isdecimal():
                if not is_alive(int(pid)):
                    path.unlink()
            elif time.time() - path.stat().st_mtime > _ABANDONED:
                path.unlink()


def scratch() -> Path:
    """This user's temporary folder for files that are stored elsewhere later. A process's first call clears it."""
    folder = _cleared(tempfile.gettempdir())
    folder.mkdir(mode=0o700, exist_ok=True)  # again: some systems remove folders that were idle for long
    return folder


@cache
def _cleared(parent: str) -> Path:
    user = getattr(os, "getuid", lambda: 0)()
    folder = Path(parent) / f"clipmill-{user}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.lstat().st_uid != user:  # anybody can create a folder in /tmp: do not use another user's
        return Path(tempfile.mkdtemp(prefix=folder.name + "-", dir=parent))
    clear(folder)
    return folder


def _host() -> str:
    return socket.gethostname().partition(".")[0]
