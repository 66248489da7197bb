"""What lies directly in a folder: names and sizes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import fsspec

from .urls import scheme_of

Entries = dict[str, int | None]  # name -> bytes; None for a folder
Stamped = tuple[int, str]  # a file's bytes, and what changes when it is written: its ETag or its time

_TIMES = ("ETag", "etag", "mtime", "updated", "LastModified", "created")  # stores' names for what changes


def stamped(storage: fsspec.AbstractFileSystem, folder: str) -> dict[str, Stamped]:
    """The files directly in a folder. Errors as of `entries`."""
    if scheme_of(folder) == "file":
        with os.scandir(folder) as files:
            stats = {file.name: file.stat() for file in files if file.is_file()}
        return {name: (stat.st_size, str(stat.st_mtime_ns)) for name, stat in stats.items()}
    storage.invalidate_cache()
    infos: list[dict[str, Any]] = [info for info in storage.ls(folder, detail=True) if info["type"] == "file"]
    return {info["name"].rpartition("/")[2]: (int(info.get("size") or 0), _changed(info)) for info in infos}


def _changed(info: dict[str, Any]) -> str:
    return str(next((info[name] for name in _TIMES if info.get(name)), ""))


def entries(storage: fsspec.AbstractFileSystem, folder: str, boundaries: Sequence[str] = ()) -> Entries:
    """FileNotFoundError where there is no such folder, NotADirectoryError where a file has its name.

    boundaries: names that divide the folder's, in order. S3 lists the ranges between them at once, and without its
    folders: a thousand names take it a tenth of a second, and a million one after the other two minutes.
    """
    if scheme_of(folder) == "file":
        return _local(folder)
    if boundaries and hasattr(storage, "sizes_between"):
        sizes: Entries = storage.sizes_between(folder, boundaries)
        return sizes
    storage.invalidate_cache()
    infos: list[dict[str, Any]] = storage.ls(folder, detail=True)
    found = {i["name"]: int(i.get("size") or 0) if i["type"] == "file" else None for i in infos}
    return {name.rpartition("/")[2]: size for name, size in found.items() if not name.endswith("/")}


def _local(folder: str) -> Entries:
    sizes: Entries = {}
    with os.scandir(folder) as files:  # links count as what they lead to
        for entry in files:
            with suppress(FileNotFoundError):  # it was deleted a moment ago
                sizes[entry.name] = entry.stat().st_size if entry.is_file() else None
    return sizes
