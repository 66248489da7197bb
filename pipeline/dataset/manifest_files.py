"""Where the manifest lies: one file, which the end of a run writes, and segments, which runs write as they go.

A run writes what is new as a segment of its own, so that no row is written again and again, and no run overwrites
another one's. The end of a run puts all rows into the one file. All of this only saves work: whatever is missing or
damaged, the parts' footers tell. What is deleted stands in another file by then, so that who reads the segments first
and the file afterwards misses no row.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pyarrow as pa

from ..errors import ClipmillError
from .layout import OWN
from .manifest import Manifest
from .output import Output

MANIFEST = f"{OWN}/manifest.parquet"
SEGMENTS = f"{OWN}/manifest"
MANY = 20_000  # parts; of so many the manifest is believed, as listing them takes a request a thousand
_AT_ONCE = 16  # files read, or deleted
_TRIES = 5  # to read all segments, while somebody merges them
_MERGED = 16  # segments that become one
_LARGE = 8192  # rows of a segment that is left as it is: merging takes memory
_DIGITS = 8  # of a run's number, in the names of its segments


class ManifestReader:
    """Reads it again and again: only what is new."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._segments: dict[str, Manifest] = {}
        self._file, self._size = Manifest.of(), -1

    def read(self) -> Manifest:
        """All rows, the file's first. Some of their parts may be gone or made anew."""
        before = self._segments
        for _ in range(_TRIES):
            if self._read_segments(segments_of(self._output)):
                break
        size = self._output.sizes(OWN).get(MANIFEST.rpartition("/")[2], 0)
        if size != self._size or before.keys() - self._segments.keys():
            self._file, self._size = _manifest(self._output.read(MANIFEST) if size else None), size
        return sum((self._segments[name] for name in sorted(self._segments)), self._file)

    def _read_segments(self, names: set[str]) -> bool:
        """Whether they were all there still."""
        new = sorted(names - self._segments.keys())
        read = dict(zip(new, _read(self._output, new), strict=True))
        there = {name: rows for name, rows in (self._segments | read).items() if name in names}
        self._segments = {name: rows for name, rows in there.items() if rows is not None}
        return None not in read.values()


def read_manifest(output: Output) -> Manifest:
    """The manifest as it was written: some of its parts may be gone or made anew. Empty where it is missing or cannot
    be read: the parts' footers hold the same."""
    return ManifestReader(output).read()


def segments_of(output: Output) -> set[str]:
    return {f"{SEGMENTS}/{name}" for name in output.names(SEGMENTS) if name.endswith(".parquet")}


def write_manifest(output: Output, manifest: Manifest, segments: Collection[str] = ()) -> None:
    """Write the one file. segments: those whose rows are in it; they are deleted."""
    with output.staged(MANIFEST, replace=True) as path:  # not in memory: a million rows are half a gigabyte there
        manifest.write(path)
    _delete(output, segments)


class Segments:
    """Those of one run. Small ones are merged, so that there are few however long it takes: some dozens, and one for
    each 8,192 shards at most."""

    def __init__(self, output: Output) -> None:
        self._output, self._run, self._count = output, uuid.uuid4().hex[:_DIGITS], 0
        self._levels: list[list[str]] = [[]]  # names, of so many merges each

    def append(self, manifest: Manifest) -> None:
        """Once this returns, the output has these rows."""
        self._write(manifest, 0)
        with suppress(ClipmillError, OSError):  # they stay as they are until the next time
            self._merge()

    def _write(self, manifest: Manifest, level: int) -> None:
        name = f"{SEGMENTS}/{self._run}-{self._count:06d}.parquet"
        self._count += 1
        self._output.write(name, manifest.packed())
        if len(manifest) < _LARGE:
            self._levels[level].append(name)

    def _merge(self) -> None:
        """Segments that are gone are in the one file: another run has ended."""
        for level, names in enumerate(self._levels):
            if len(names) < _MERGED:
                return
            if level + 1 == len(self._levels):
                self._levels.append([])
            rows = [rows for rows in _read(self._output, names) if rows is not None]
            if rows:
                self._write(sum(rows, Manifest.of()), level + 1)
            self._levels[level] = []
            _delete(self._output, names)


def _read(output: Output, names: Sequence[str]) -> list[Manifest | None]:
    """None for files that are gone."""
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="segments") as pool:
        contents = list(pool.map(output.read, names))
    # one after the other: each is a tenth of its size while it is packed
    return [None if content is None else _manifest(content) for content in contents]


def _manifest(content: bytes | None) -> Manifest:
    try:
        return Manifest.unpacked(content) if content else Manifest.of()
    except (pa.ArrowException, OSError, KeyError, ValueError):  # Arrow raises OSError for a broken footer
        return Manifest.of()


def _delete(output: Output, names: Collection[str]) -> None:
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="segments") as pool:
        list(pool.map(output.delete, names))
