"""A remote file as a stream: fetched in blocks, some ahead, each tried again where it breaks."""

from __future__ import annotations

import io
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import fsspec

from .retry import retry

_BLOCK = 8 << 20  # bytes a request
_AHEAD = 2  # blocks fetched while one is read: 24 MiB a stream in all


class RemoteFile(io.RawIOBase):
    """Sequential reads of an object of known size. Raises what the storage raises when it keeps failing, and OSError
    when the object's length is not what was listed."""

    def __init__(self, storage: fsspec.AbstractFileSystem, url: str, size: int, block: int = _BLOCK) -> None:
        self._storage, self._url, self._size, self._block = storage, url, size, block
        self._pool = ThreadPoolExecutor(_AHEAD, thread_name_prefix="fetch")
        self._fetching: deque[Future[bytes]] = deque()
        self._next = 0  # where the next fetch begins
        self._buffer = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        if not self._buffer:
            self._fetch_ahead()
            if not self._fetching:
                return 0
            self._buffer = memoryview(self._fetching.popleft().result())
            self._fetch_ahead()
        count = min(len(target), len(self._buffer))
        target[:count] = self._buffer[:count]
        self._buffer = self._buffer[count:]
        return count

    def close(self) -> None:
        if not self.closed:
            self._pool.shutdown(wait=False, cancel_futures=True)
        super().close()

    def _fetch_ahead(self) -> None:
        while len(self._fetching) < _AHEAD and self._next < self._size:
            start, self._next = self._next, min(self._next + self._block, self._size)
            self._fetching.append(self._pool.submit(retry, lambda a=start, b=self._next: self._fetch(a, b)))

    def _fetch(self, start: int, stop: int) -> bytes:
        data: bytes = self._storage.cat_file(self._url, start=start, end=stop)
        if len(data) != stop - start:
            raise OSError(f"{self._url}: {len(data)} bytes of {stop - start} at {start}")
        return data
