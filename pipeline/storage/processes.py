"""Which processes of this machine have not ended."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_ENDED = ("Z", "X")  # states in /proc


def is_alive(pid: int) -> bool:
    """False for one that has ended and for which nobody has waited: a container whose first process waits for no others
    keeps those for good."""
    try:
        os.kill(pid, 0)  # no signal is sent
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # another user's process
        pass
    return _state(pid) not in _ENDED


def _state(pid: int) -> str:
    """A letter; empty where there is no /proc."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]  # the name may hold anything
    return ""
