"""A remote file: fetched in blocks, some ahead, each tried again where it breaks."""

from __future__ import annotations

import io
import os
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import fsspec

from ..errors import ShardError
from .retry import retry

_BLOCK = 8 << 20  # bytes a request
_AHEAD = 2  # blocks fetched while one is read
_KEEP = _AHEAD + 2  # blocks held: 32 MiB a file


class RemoteFile(io.RawIOBase):
    """Reads of an object of known size, ahead where they go on in sequence; wrap it in a BufferedReader.

    Raises what the storage raises when it keeps failing (the next read tries again at the same place), OSError when
    it keeps giving fewer bytes than the object has, ShardError when the object is longer than it was.
    """

    def __init__(
        self, storage: fsspec.AbstractFileSystem, url: str, size: int, block: int = _BLOCK, keep: int = _KEEP
    ) -> None:
        self._storage, self._url, self._size, self._block = storage, url, size, block
        self._keep = max(keep, _KEEP)
        self._pool = ThreadPoolExecutor(_AHEAD + 1, thread_name_prefix="fetch")
        self._blocks: OrderedDict[int, Future[bytes]] = OrderedDict()  # the last used at the end
        self._position = 0
        self.failure: Exception | None = None  # what the last read raised; some readers hide where an error is from

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        if start + offset < 0:
            raise ValueError(f"negative seek position {start + offset}")
        self._position = start + offset
        return self._position

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
        """A block; those after it are asked for already where the one before it was read too."""
        in_sequence = number == 0 or number - 1 in self._blocks
        wanted = range(number, min(number + _AHEAD * in_sequence, (self._size - 1) // self._block) + 1)
        for each in wanted:
            if each not in self._blocks:
                self._blocks[each] = self._pool.submit(retry, partial(self._fetch, each))
            self._blocks.move_to_end(each)
        while len(self._blocks) > self._keep:
            self._blocks.popitem(last=False)[1].cancel()
        try:
            return self._blocks[number].result()
        except Exception as error:
            self._blocks.clear()  # or what failed once would for ever
            self.failure = error
            raise

    def _fetch(self, number: int) -> bytes:
        if self.closed:
            raise ShardError(f"{self._url}: closed")  # nobody waits for this; it ends the attempts
        start = number * self._block
        stop = min(start + self._block, self._size)
        at_end = stop == self._size  # one byte more is asked for there, which must not exist
        data: bytes = self._storage.cat_file(self._url, start=start, end=stop + at_end)
        if len(data) > stop - start:
            raise ShardError(f"{self._url}: longer than the {self._size:,} bytes it was listed with")
        if len(data) < stop - start:
            raise OSError(f"{self._url}: {len(data)} bytes of {stop - start} at {start}")
        return data
