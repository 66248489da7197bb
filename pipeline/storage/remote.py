"""A remote file, fetched in blocks: some ahead of the reader, each tried again when it fails."""

from __future__ import annotations

from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import fsspec

from ..errors import ShardError
from .retry import retry
from .seekable import SeekableFile

_BLOCK = 8 << 20  # bytes a request
_AHEAD = 2  # blocks fetched while one is read
_KEEP = _AHEAD + 2  # blocks held: 32 MiB a file


class RemoteFile(SeekableFile):
    """Reads an object of known size, and reads ahead while reads are in sequence; wrap it in a BufferedReader.

    Raises the storage's own error when it keeps failing (the next read tries again at the same position), OSError when
    it keeps returning fewer bytes than the object has, ShardError when the object is longer than it was listed.
    """

    def __init__(
        self, storage: fsspec.AbstractFileSystem, url: str, size: int, block: int = _BLOCK, keep: int = _KEEP
    ) -> None:
        super().__init__(size)
        self._storage, self._url, self._block = storage, url, block
        self._keep = max(keep, _KEEP)
        self._pool = ThreadPoolExecutor(_AHEAD + 1, thread_name_prefix="fetch")
        self._blocks: OrderedDict[int, Future[bytes]] = OrderedDict()  # the last used at the end
        self.failure: Exception | None = None  # of the last read: some readers hide the original error

    def readinto(self, target: Any) -> int:
        if self.closed:
            raise ValueError("read of closed file")
        if self._position >= self._size or not len(target):
            return 0
        number, offset = divmod(self._position, self._block)
        data = memoryview(self._take(number))[offset : offset + len(target)]
        target[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._blocks.clear()
        super().close()

    def _take(self, number: int) -> bytes:
        """A block. The next ones are requested too where the reads are in sequence."""
        in_sequence = number == 0 or number - 1 in self._blocks
        wanted = range(number, min(number + _AHEAD * in_sequence, (self._size - 1) // self._block) + 1)
        for ahead in wanted:
            if ahead not in self._blocks:
                self._blocks[ahead] = self._pool.submit(retry, partial(self._fetch, ahead))
            self._blocks.move_to_end(ahead)
        while len(self._blocks) > self._keep:
            self._blocks.popitem(last=False)[1].cancel()
        try:
            return self._blocks[number].result()
        except Exception as error:
            self._blocks.clear()  # or a failed block would be kept, and fail every later read
            self.failure = error
            raise

    def _fetch(self, number: int) -> bytes:
        if self.closed:
            raise ShardError(f"{self._url}: closed")  # nobody waits for this block: stop trying
        start = number * self._block
        stop = min(start + self._block, self._size)
        at_end = stop == self._size  # there one byte more is requested, which must not exist
        data: bytes = self._storage.cat_file(self._url, start=start, end=stop + at_end)
        if len(data) > stop - start:
            raise ShardError(f"{self._url}: longer than the {self._size:,} bytes that it was listed with")
        if len(data) < stop - start:
            raise OSError(f"{self._url}: {len(data)} bytes of {stop - start} at {start}")
        return data
