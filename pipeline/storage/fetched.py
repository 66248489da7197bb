"""What remote files share: pieces of them, which threads fetch ahead of the reader."""

from __future__ import annotations

from abc import abstractmethod
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import fsspec

from .seekable import SeekableFile


class FetchedFile(SeekableFile):
    """An object of known size; wrap it in a BufferedReader. Which pieces are fetched, and when, is the subclass's."""

    def __init__(self, storage: fsspec.AbstractFileSystem, url: str, size: int, threads: int) -> None:
        super().__init__(size)
        self._storage, self._url = storage, url
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="fetch")
        self._pieces: OrderedDict[int, Future[bytes]] = OrderedDict()  # by number

    @abstractmethod
    def _at_position(self, most: int) -> memoryview:
        """Bytes from the position on: one at least, and perhaps more than `most`."""

    def readinto(self, target: Any) -> int:
        if self.closed:
            raise ValueError("read of closed file")
        if self._position >= self._size or not len(target):
            return 0
        data = self._at_position(len(target))[: len(target)]
        target[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pieces.clear()
        super().close()

    def _fetched(self, number: int) -> bytes:
        """A piece that was asked for. The storage's error where it cannot be had; the next read asks again."""
        try:
            return self._pieces[number].result()
        except Exception:
            self._pieces.clear()  # or a failed piece would be kept, and fail every later read
            raise

    def _request(self, start: int, stop: int, beyond: int = 0) -> bytes:
        """Bytes of the object, and so many beyond them if it has them. OSError for fewer."""
        data: bytes = self._storage.cat_file(self._url, start=start, end=stop + beyond)
        if len(data) < stop - start:
            raise OSError(f"{self._url}: {len(data)} bytes of {stop - start} at {start}")
        return data
