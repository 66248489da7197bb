"""A remote file of which some ranges are not wanted: what lies between them is fetched, several ranges at once."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import fsspec

from .retry import retry
from .seekable import SeekableFile

Range = tuple[int, int]  # from the first byte to before the last

_NARROW = 4 << 10  # bytes of a hole that is fetched with what is around it: a request costs more
_LONGEST = 1 << 20  # bytes of a request
_AHEAD = 24  # ranges fetched ahead of the reader


class FileWithHoles(SeekableFile):
    """Reads an object of known size from its beginning to its end; wrap it in a BufferedReader. Bytes in holes can be
    read, too, by a request of their own. Errors as of `RemoteFile`."""

    def __init__(self, storage: fsspec.AbstractFileSystem, url: str, size: int, holes: Iterable[Range]) -> None:
        super().__init__(size)
        self._storage, self._url = storage, url
        self._ranges = list(between(holes, size))
        self._starts = [start for start, _ in self._ranges]
        self._pool = ThreadPoolExecutor(_AHEAD, thread_name_prefix="fetch")
        self._fetched: dict[int, Future[bytes]] = {}

    def readinto(self, target: Any) -> int:
        if self.closed:
            raise ValueError("read of closed file")
        if self._position >= self._size or not len(target):
            return 0
        number = bisect_right(self._starts, self._position) - 1
        if number >= 0 and self._position < self._ranges[number][1]:
            offset = self._position - self._ranges[number][0]
            data = memoryview(self._take(number))[offset : offset + len(target)]
        else:
            stop = min(self._position + len(target), self._size)
            data = memoryview(self._fetch((self._position, stop)))
        target[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._fetched.clear()
        super().close()

    def _take(self, number: int) -> bytes:
        for old in [old for old in self._fetched if old < number]:
            self._fetched.pop(old).cancel()
        for ahead in range(number, min(number + _AHEAD, len(self._ranges))):
            if ahead not in self._fetched:
                self._fetched[ahead] = self._pool.submit(self._fetch, self._ranges[ahead])
        try:
            return self._fetched[number].result()
        except Exception:
            self._fetched.clear()  # or it would fail every later read
            raise

    def _fetch(self, wanted: Range) -> bytes:
        return retry(partial(self._request, *wanted))

    def _request(self, start: int, stop: int) -> bytes:
        data: bytes = self._storage.cat_file(self._url, start=start, end=stop)
        if len(data) != stop - start:
            raise OSError(f"{self._url}: {len(data)} bytes of {stop - start} at {start}")
        return data


def between(holes: Iterable[Range], size: int) -> Iterator[Range]:
    """What is left of a file of `size` bytes, in order, in pieces of a request each."""
    start = 0
    for hole, end in (*sorted(holes), (size, size)):
        if hole - start > 0 and (end - hole >= _NARROW or hole >= size):
            for at in range(start, hole, _LONGEST):
                yield at, min(at + _LONGEST, hole)
        if end - hole >= _NARROW or hole >= size:
            start = max(start, end)
