"""The sha256 of large files, remembered: hashing the weights of a large model takes seconds, at every start."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from .download import cache_folder, sha256_of

_LARGE = 1 << 25  # bytes: what is smaller is hashed sooner than looked up
_SETTLED = 10.0  # seconds since a file was last changed: file systems' clocks are coarse


def remembered_sha256(files: Sequence[Path]) -> str:
    """As `sha256_of`. Read once for each state of the files: path, inode, size, and times of change. OSError where one
    cannot be read."""
    state = _state(files)
    if state is None:
        return sha256_of(files)
    note = cache_folder() / "sha256" / hashlib.sha256(state.encode()).hexdigest()
    with suppress(OSError, UnicodeDecodeError):
        known = note.read_text(encoding="ascii").strip()
        if len(known) == 64 and set(known) <= set("0123456789abcdef"):
            return known
    sha256 = sha256_of(files)
    if _state(files) == state:  # nobody wrote to them meanwhile
        with suppress(OSError):  # the folder is read-only, say
            note.parent.mkdir(parents=True, exist_ok=True)
            part = note.with_name(f"{note.name}.{time.monotonic_ns()}.part")
            part.write_text(sha256, encoding="ascii")
            part.replace(note)
    return sha256


def _state(files: Sequence[Path]) -> str | None:
    """What changes when a file does; None where they are small, or too young for that to be sure."""
    found = [(path.resolve(), path.stat()) for path in files]
    changed = max((max(stat.st_mtime, stat.st_ctime) for _, stat in found), default=0.0)
    if sum(stat.st_size for _, stat in found) < _LARGE or time.time() - changed < _SETTLED:
        return None
    return json.dumps([(str(path), s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for path, s in found])
