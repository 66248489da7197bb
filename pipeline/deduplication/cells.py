"""Vectors on disk in order of their cells: written while a dataset streams by, read a few cells at a time.

A file holds up to `_ROWS` rows' records, sorted by cell; an index beside them, written last, says where each cell is in
each file.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..dataset.output import Output
from ..records import Vectors
from .components import Ids

Records = npt.NDArray[np.void]  # of `record_type`
Offsets = npt.NDArray[np.int32]  # [files, cells + 1], in records

_ROWS = 1 << 16  # held while a file fills: 128 MiB of two float16[512] each


def record_type(dim: int, embedding_type: str) -> np.dtype[np.void]:
    """The type of a vector's record on disk: `id` int64, and `vector` in the dataset's own type."""
    return np.dtype([("id", "<i8"), ("vector", np.dtype(embedding_type).newbyteorder("<"), (dim,))])


class CellWriter:
    """Call `add` for all vectors, then `finish`. The same vectors in the same order make the same files."""

    def __init__(self, output: Output, name: str, cells: int, record: np.dtype[np.void]) -> None:
        self._output, self._name, self._cells, self._record = output, name, cells, record
        self._waiting: list[tuple[Records, npt.NDArray[np.int32]]] = []
        self._offsets: list[Any] = []

    def add(self, ids: Ids, vectors: Vectors, cells: npt.NDArray[np.int32]) -> None:
        """ids: int64 [n]; vectors: float32 [n, dim]; cells: int32 [n, probes], each of which gets the vector."""
        records = np.empty(len(ids), self._record)
        records["id"], records["vector"] = ids, vectors
        self._waiting.append((records, cells))
        if sum(len(waiting) for waiting, _ in self._waiting) >= _ROWS:
            self._flush()

    def finish(self) -> None:
        if self._waiting:
            self._flush()
        index = io.BytesIO()
        np.save(index, np.array(self._offsets, np.int32).reshape(-1, self._cells + 1))
        self._output.write(index_name(self._name), index.getvalue())

    def _flush(self) -> None:
        records = np.concatenate([waiting for waiting, _ in self._waiting])
        cells = np.concatenate([waiting for _, waiting in self._waiting])
        self._waiting = []
        order = np.argsort(cells, axis=None, kind="stable")
        with self._output.staged(file_name(self._name, len(self._offsets)), replace=True) as path:
            records[order // cells.shape[1]].tofile(path)
        counts = np.bincount(cells.ravel(), minlength=self._cells)
        self._offsets.append(np.concatenate([[0], np.cumsum(counts)]))


def index_name(name: str) -> str:
    return f"{name}.npy"


def file_name(name: str, number: int) -> str:
    return f"{name}-{number:04d}.bin"


@dataclass(frozen=True)
class CellFiles:
    """The files of several writers. Cheap to send to workers."""

    output: Output
    names: tuple[str, ...]
    record: np.dtype[np.void]

    @classmethod
    def open(cls, output: Output, written: Sequence[str], record: np.dtype[np.void]) -> tuple[CellFiles, Offsets]:
        """The files, and where the cells are in them. written: the names that the writers had."""
        names: list[str] = []
        offsets: list[Offsets] = []
        for name in written:
            offsets.append(np.load(io.BytesIO(output.read(index_name(name)) or b"")))
            names += [file_name(name, number) for number in range(len(offsets[-1]))]
        return cls(output, tuple(names), record), np.concatenate(offsets)

    def cells(self, offsets: Offsets) -> Iterator[Records]:
        """The records of each cell, held together. offsets: [files, cells + 1], as `open` returns them, of some cells
        that follow each other."""
        records = self.rows(offsets[:, [0, -1]], 0, int((offsets[:, -1] - offsets[:, 0]).sum()))
        counts = np.diff(offsets)
        cell = np.repeat(np.tile(np.arange(counts.shape[1]), len(counts)), counts.ravel())
        order = np.argsort(cell, kind="stable")
        ends = np.cumsum(counts.sum(axis=0))
        for start, end in zip([0, *ends[:-1]], ends, strict=True):
            yield records[order[start:end]]

    def rows(self, offsets: Offsets, start: int, stop: int) -> Records:
        """Records `start` to `stop` of one cell, counted through all files. offsets: [files, 2]."""
        pieces = [np.empty(0, self.record)]
        first = 0  # of a file's records, among all of the cell
        for name, (begin, end) in zip(self.names, offsets.tolist(), strict=True):
            low, high = max(start - first, 0), min(stop - first, end - begin)
            if low < high:
                size = self.record.itemsize
                data = self.output.read_range(name, (begin + low) * size, (begin + high) * size)
                pieces.append(np.frombuffer(data, self.record))
            first += end - begin
        return np.concatenate(pieces)
