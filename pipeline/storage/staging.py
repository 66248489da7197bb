"""Unfinished files on local disks. Their names tell who writes them, so that what crashes left behind is known."""

from __future__ import annotations

import os
import socket
import tempfile
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

_ABANDONED = 24 * 3600  # seconds, after which another machine's unfinished file is taken for abandoned


def unfinished(folder: Path, name: str) -> Path:
    """A new path in `folder` for this process to write what will be called `name`."""
    return folder / f"{_host()}.{os.getpid()}.{time.monotonic_ns()}.{name.rpartition('/')[2]}"


def clear(folder: Path) -> None:
    """Remove unfinished files whose writer is gone: of this machine's by asking for the process, of others' by age."""
    for path in folder.iterdir():
        host, _, rest = path.name.partition(".")
        pid = rest.partition(".")[0]
        with suppress(OSError):
            if host == _host() and pid.isdecimal():
                if not _is_alive(int(pid)):
                    path.unlink()
            elif time.time() - path.stat().st_mtime > _ABANDONED:
                path.unlink()


def scratch() -> Path:
    """This user's folder for what is built here and kept elsewhere. The first call of a process clears it."""
    folder = _cleared(tempfile.gettempdir())
    folder.mkdir(mode=0o700, exist_ok=True)  # again: some systems clear away what has been idle for long
    return folder


@cache
def _cleared(parent: str) -> Path:
    user = getattr(os, "getuid", lambda: 0)()
    folder = Path(parent) / f"clipmill-{user}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.lstat().st_uid != user:  # everybody may write to /tmp: this one is somebody's trap
        return Path(tempfile.mkdtemp(prefix=folder.name + "-", dir=parent))
    clear(folder)
    return folder


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)  # no signal is sent
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def _host() -> str:
    return socket.gethostname().partition(".")[0]
