"""Ray on this machine, for one run: how it is started, and that nothing of it outlives the run."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..errors import UserError
from . import guardian

_OBJECT_STORE = 128 << 20  # bytes for every four CPUs: pixels pass through it where processes of their own decode
_SOCKET = "ray/session_2026-01-01_00-00-00_000000_0000000/sockets/plasma_store"  # Ray's longest, below its folder
_LONGEST_SOCKET = 103 if sys.platform == "darwin" else 107  # bytes of a socket's path


def local_options() -> dict[str, Any]:
    """Arguments of `ray.init`; some of Ray's settings are environment variables. UserError where Ray could not start
    with the folder for temporary files that the environment names."""
    _check_temporary_folder()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # glibc gives each of many threads a pool, and memory freed in one is not used by another: a third of a worker's
    os.environ.setdefault("MALLOC_ARENA_MAX", "2")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # leave CUDA_VISIBLE_DEVICES alone
    cpus = os.cpu_count() or 1
    return {"include_dashboard": False, "object_store_memory": _OBJECT_STORE * max(1, cpus // 4)}


def _check_temporary_folder() -> None:
    folder = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    if len(os.fsencode(Path(folder, _SOCKET))) > _LONGEST_SOCKET:
        raise UserError(
            f"{folder}: the path of this folder for temporary files is too long for Ray's sockets: set RAY_TMPDIR to "
            "a shorter one, such as /tmp"
        )


@contextmanager
def guarded() -> Generator[None, None, None]:
    """What is started within ends with this process, even where that is killed: Ray's agents would go on for a minute,
    and workers for a second or two. Only where there is a /proc; elsewhere Ray's own ways are all there is."""
    if not Path("/proc/self/stat").exists():
        yield
        return
    command, quiet = [sys.executable, "-I", "-S", guardian.__file__], subprocess.DEVNULL
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=quiet, stderr=quiet, bufsize=0) as process:
        try:
            yield
        finally:
            if process.stdin is not None:
                with suppress(OSError):
                    process.stdin.write(b"done")
