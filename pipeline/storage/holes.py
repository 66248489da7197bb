"""A remote file of which some ranges are not wanted: what lies between them is fetched, several ranges at once."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from functools import partial

import fsspec

from .fetched import FetchedFile
from .retry import retry

Range = tuple[int, int]  # from the first byte to before the last

_NARROW = 4 << 10  # bytes of a hole that is fetched with what is around it: a request costs more
_LONGEST = 1 << 20  # bytes of a request
_AHEAD = 24  # ranges fetched ahead of the reader


class FileWithHoles(FetchedFile):
    """Reads an object of known size from its beginning to its end. Bytes in holes can be read, too, by a request of
    their own. Errors as of `RemoteFile`."""

    def __init__(self, storage: fsspec.AbstractFileSystem, url: str, size: int, holes: Iterable[Range]) -> None:
        super().__init__(storage, url, size, _AHEAD)
        self._ranges = list(between(holes, size))
        self._starts = [start for start, _ in self._ranges]

    def _at_position(self, most: int) -> memoryview:
        number = bisect_right(self._starts, self._position) - 1
        if number < 0 or self._position >= self._ranges[number][1]:  # in a hole
            stop = min(self._position + most, self._size)
            return memoryview(retry(partial(self._request, self._position, stop)))
        return memoryview(self._take(number))[self._position - self._starts[number] :]

    def _take(self, number: int) -> bytes:
        for old in [old for old in self._pieces if old < number]:
            self._pieces.pop(old).cancel()
        for ahead in range(number, min(number + _AHEAD, len(self._ranges))):
            if ahead not in self._pieces:
                self._pieces[ahead] = self._pool.submit(retry, partial(self._request, *self._ranges[ahead]))
        return self._fetched(number)


def between(holes: Iterable[Range], size: int) -> Iterator[Range]:
    """What is left of a file of `size` bytes, in order, in pieces of a request each."""
    start = 0
    for hole, end in (*sorted(holes), (size, size)):
        if hole - start > 0 and (end - hole >= _NARROW or hole >= size):
            for at in range(start, hole, _LONGEST):
                yield at, min(at + _LONGEST, hole)
        if end - hole >= _NARROW or hole >= size:
            start = max(start, end)
