"""Small files as a whole, among them those that can be read only once: pipes, such as `<(…)` and /dev/stdin."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .retry import retry
from .urls import open_storage, scheme_of


def is_stream(name: str) -> bool:
    """Whether it is a local pipe, terminal or the like. Who only looks at files leaves it: what is read is gone."""
    path = Path(name)
    try:
        return scheme_of(name) == "file" and path.exists() and not path.is_file() and not path.is_dir()
    except (OSError, ValueError):  # a name that no file can have
        return False


def read_whole(url: str, storage_options: Mapping[str, Any] | None = None, attempts: int = 3) -> bytes:
    """All bytes of a file, by its canonical URL. Storage's own errors, after some attempts."""
    if is_stream(url):  # fsspec opens what it can seek in, and nothing else
        return Path(url).read_bytes()
    content: bytes = retry(lambda: open_storage(url, storage_options).cat_file(url), attempts)
    return content
