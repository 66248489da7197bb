"""Where this machine keeps copies of what lies in outputs, so that searches read them at the speed of its disk."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ...clipmodel.download import cache_folder


def search_copies(url: str) -> Path:
    """The folder of a dataset's copies."""
    return cache_folder() / "search" / _digest(url)


def index_copies(url: str) -> Path:
    """The folder of an index's copies."""
    return cache_folder() / "index" / _digest(url)


def _digest(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()[:16]
