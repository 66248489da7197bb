"""Processes of others, which may end at any moment, between two questions about them, too."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

import psutil


def living(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Those that have not ended."""
    found = []
    for each in processes:
        with suppress(psutil.Error):
            if each.is_running() and each.status() != psutil.STATUS_ZOMBIE:
                found.append(each)
    return found


def name_of(process: psutil.Process) -> str:
    """Empty for one that has ended meanwhile."""
    with suppress(psutil.Error):
        return process.name()
    return ""
