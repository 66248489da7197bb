"""Files that appear whole in a folder of this machine."""

from __future__ import annotations

import os
from pathlib import Path


def move(path: Path, target: Path) -> None:
    """Make a finished file the one at `target`, on the same file system, whatever is there."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
    target.parent.mkdir(parents=True, exist_ok=True)
    path.replace(target)


def move_new(path: Path, target: Path) -> bool:
    """The same where there is none; False where there is one."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(path, target)
    except FileExistsError:
        return False
    except OSError:  # a file system without links
        if target.exists():
            return False
        move(path, target)
    return True
