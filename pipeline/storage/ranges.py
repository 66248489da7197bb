"""An object store as a reader of columns wants it: exactly the ranges that it asks for, and no request for known sizes.

fsspec's own files read ahead, so that DuckDB, which reads some kilobytes here and there, got 200 times as many bytes.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any, BinaryIO, cast

import fsspec
from fsspec.spec import AbstractFileSystem

from .remote import RemoteFile
from .retry import retry
from .seekable import SeekableFile

_SOME_DAY = datetime(2000, 1, 1, tzinfo=timezone.utc)  # DuckDB asks; what it caches does not outlive a connection


class Ranges(AbstractFileSystem):
    """A read-only view of another file system. sizes: of files by URL, as far as they are known; of others the store is
    asked once."""

    cachable = False

    def __init__(self, storage: fsspec.AbstractFileSystem, sizes: Mapping[str, int] | None = None) -> None:
        super().__init__()
        self.protocol = storage.protocol
        self._storage = storage
        self._sizes = dict(sizes or {})

    def open(self, path: str, mode: str = "rb", **_: Any) -> io.RawIOBase:
        if mode != "rb":
            raise PermissionError(f"{path}: open for reading only")
        return _SharedFile(self._storage, path, self._size(path))

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        return {"name": path, "size": self._size(path), "type": "file"}

    def glob(self, path: str, **_: Any) -> list[str]:
        """The path itself: files are named one by one, `*` in brackets where it is a character of the name."""
        name = path.replace("[*]", "*").replace("[?]", "?").replace("[[]", "[")
        return [name]

    def modified(self, path: str) -> datetime:
        return _SOME_DAY

    def _size(self, path: str) -> int:
        if path not in self._sizes:
            self._sizes[path] = int(retry(lambda: self._storage.info(path))["size"])
        return self._sizes[path]


def opened(storage: fsspec.AbstractFileSystem, url: str, size: int) -> BinaryIO:
    """A file of known size: of Parquet what is read, and of others, which are read from beginning to end, what comes
    next, too."""
    if url.endswith(".parquet"):
        return cast(BinaryIO, RangeFile(storage, url, size))
    return cast(BinaryIO, io.BufferedReader(RemoteFile(storage, url, size)))


class RangeFile(SeekableFile):
    """Each read is a request, tried again where it fails."""

    def __init__(self, storage: fsspec.AbstractFileSystem, path: str, size: int) -> None:
        super().__init__(size)
        self._storage, self._path = storage, path

    def read(self, size: int = -1) -> bytes:
        start = self._position
        end = self._size if size < 0 else min(start + size, self._size)
        if end <= start:
            return b""
        data: bytes = retry(lambda: self._storage.cat_file(self._path, start=start, end=end))
        if len(data) != end - start:
            raise OSError(f"{self._path}: {len(data)} bytes of {end - start} at {start}")
        self._position = end
        return data


class _SharedFile(RangeFile):
    """Several threads of DuckDB read from one file at once, each by going to a place and reading there. So each thread
    has a position of its own; with one for all, it might read where another one went."""

    def __init__(self, storage: fsspec.AbstractFileSystem, path: str, size: int) -> None:
        self._places = threading.local()
        super().__init__(storage, path, size)

    @property
    def _position(self) -> int:
        return getattr(self._places, "position", 0)

    @_position.setter
    def _position(self, position: int) -> None:
        self._places.position = position
