"""A remote file, fetched in blocks: some ahead of the reader, each tried again when it fails."""

from __future__ import annotations

from functools import partial

import fsspec

from ..errors import ShardError
from .fetched import FetchedFile
from .retry import retry

_BLOCK = 8 << 20  # bytes a request
_AHEAD = 2  # blocks fetched while one is read
_KEEP = _AHEAD + 2  # blocks held: 32 MiB a file


class RemoteFile(FetchedFile):
    """Reads an object of known size, and reads ahead while reads are in sequence; wrap it in a BufferedReader.

    Raises the storage's own error when it keeps failing (the next read tries again at the same position), OSError when
    it keeps returning fewer bytes than the object has, ShardError when the object is longer than it was listed.
    """

    def __init__(
        self, storage: fsspec.AbstractFileSystem, url: str, size: int, block: int = _BLOCK, keep: int = _KEEP
    ) -> None:
        super().__init__(storage, url, size, _AHEAD + 1)
        self._block, self._keep = block, max(keep, _KEEP)
        self.failure: Exception | None = None  # of the last read: some readers hide the original error

    def _at_position(self, most: int) -> memoryview:
        number, offset = divmod(self._position, self._block)
        return memoryview(self._take(number))[offset:]

    def _take(self, number: int) -> bytes:
        """A block. The next ones are requested too where the reads are in sequence."""
        in_sequence = number == 0 or number - 1 in self._pieces
        wanted = range(number, min(number + _AHEAD * in_sequence, (self._size - 1) // self._block) + 1)
        for ahead in wanted:
            if ahead not in self._pieces:
                self._pieces[ahead] = self._pool.submit(retry, partial(self._fetch, ahead))
            self._pieces.move_to_end(ahead)  # the last used
        while len(self._pieces) > self._keep:
            self._pieces.popitem(last=False)[1].cancel()
        try:
            return self._fetched(number)
        except Exception as error:
            self.failure = error
            raise

    def _fetch(self, number: int) -> bytes:
        if self.closed:
            raise ShardError(f"{self._url}: closed")  # nobody waits for this block: stop trying
        start = number * self._block
        stop = min(start + self._block, self._size)
        at_end = stop == self._size  # there one byte more is requested, which must not exist
        data = self._request(start, stop, beyond=int(at_end))
        if len(data) > stop - start:
            raise ShardError(f"{self._url}: longer than the {self._size:,} bytes that it was listed with")
        return data
