"""Vectors in order of their cells: collected on this machine's disk while parts stream by, written as one object."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from itertools import pairwise
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from ..dataset.output import Output
from ..storage import staging
from . import sorted_files
from .components import Ids

Records = npt.NDArray[np.void]  # of `record_type`, or another type with a field `cell`

_CHUNK = 64 << 20  # bytes of records that are sorted in memory at a time


def record_type(dim: int, embedding_type: str) -> np.dtype[np.void]:
    """A vector's record: `id` int64, `cell` int32, and `vector` in the dataset's own type."""
    vector = ("vector", np.dtype(embedding_type).newbyteorder("<"), (dim,))
    return np.dtype([("id", "<i8"), ("cell", "<i4"), vector])


def scratch_file() -> IO[bytes]:
    """A file without a name: nothing of it stays, however the process ends."""
    return tempfile.TemporaryFile(dir=staging.scratch())


class CellWriter:
    """Call `add` for all vectors, then `write`. Used as a context. The same vectors make the same object, and records
    of another type that are added in the same order come in the same order.

    Chunks are sorted in memory and spilled; `write` merges them, a few cells at a time.
    """

    def __init__(self, cells: int, record: np.dtype[np.void]) -> None:
        self._cells, self._record = cells, record
        self._waiting: list[Records] = []
        self._size = 0
        self._spilled = scratch_file()
        self._ends: list[Ids] = []  # of each chunk: where its cells begin in the spilled file, in records
        self._count = 0

    def __enter__(self) -> CellWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._spilled.close()

    def add(self, cells: npt.NDArray[np.int32], **fields: npt.NDArray[Any]) -> None:
        """cells: int32 [n, probes], each of which gets the record; fields: all others, each [n, …]."""
        records = np.empty(cells.shape, self._record)
        records["cell"] = cells
        for name, values in fields.items():
            records[name] = values[:, None]
        self._waiting.append(records.ravel())
        self._size += records.nbytes
        if self._size >= _CHUNK:
            self._spill()

    def write(self, output: Output, name: str) -> None:
        """counts of the index: how many records."""
        self._spill()
        sizes = sum((np.diff(ends) for ends in self._ends), np.zeros(self._cells, np.int64)) * self._record.itemsize
        offsets = sorted_files.offsets_of(sizes)
        sorted_files.write(output, name, self._merged(sizes), offsets, [self._count])

    def _spill(self) -> None:
        records = np.concatenate([np.empty(0, self._record), *self._waiting])
        self._waiting, self._size = [], 0
        counts = np.bincount(records["cell"], minlength=self._cells)
        self._spilled.write(records[np.argsort(records["cell"], kind="stable")].data)
        self._ends.append(self._count + sorted_files.offsets_of(counts))
        self._count += len(records)

    def _merged(self, sizes: npt.NDArray[np.int64]) -> Iterator[Records]:
        """All records in order of cell; those of a cell in the order in which they came."""
        self._spilled.flush()
        spilled = mapped(self._spilled, self._record)
        cuts = sorted_files.cut(sizes, _CHUNK).tolist()
        for first, stop in pairwise(cuts):
            pieces = [spilled[ends[first] : ends[stop]] for ends in self._ends]
            if stop - first == 1:
                yield from (piece for piece in pieces if len(piece))
            else:
                together = np.concatenate(pieces)
                yield together[np.argsort(together["cell"], kind="stable")]


def mapped(file: IO[bytes], record: np.dtype[np.void]) -> Any:
    """A file's records, read from its disk as they are used."""
    size = file.seek(0, 2)
    return np.memmap(file, record, "r") if size else np.empty(0, record)
