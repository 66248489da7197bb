"""Filling segments of an index from parts, each as one piece of work, anywhere on a cluster."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ..choices import IndexKind
from ..dataset.dataset import Dataset
from ..dataset.output import Output
from ..records import Vectors
from .ann_cells import code_size, memory
from .ann_files import Queries, local_path, read_training, trained_path, write_segment
from .faiss_library import assigner, cells_of, empty_like, faiss
from .numbered_rows import NumberedRows
from .part_vectors import batches
from .scan import Numbers, Scores
from .segment import KEPT, Contents, Nearest

_PIECE = 1 << 29  # bytes of codes that a piece of work holds before it writes them
_AT_LEAST = 1 << 16  # rows of one, lest there be too many
_OF_MEMORY = 0.25  # that all pieces on a machine may take

Group = tuple[tuple[str, int, int], ...]  # parts: name, bytes, rows


@dataclass(frozen=True)
class Fill:
    """Makes a segment of some parts, and commits it. Cheap to send to workers."""

    dataset: Dataset
    column: str
    output: Output
    training: str
    threads: int  # of FAISS's in each call

    def __call__(self, group: Group) -> str:
        """Returns the segment's name."""
        trained = _trained(local_path(self.output, trained_path(self.training)))
        queries = read_training(self.output, self.training).queries
        index = faiss().clone_index(trained) if cells_of(trained) is None else empty_like(cells_of(trained))
        add, nearest = _Adding.to(index), _Meeting(queries)
        starts = np.cumsum([0, *(rows for _, _, rows in group)], dtype=np.int64)
        present = np.zeros(int(starts[-1]), dtype=np.bool_)
        with _threads(self.threads):
            for (part, _, rows), start in zip(group, starts.tolist(), strict=False):
                for batch in batches(self.dataset, part, self.column, rows):
                    numbers = start + batch.first + np.flatnonzero(batch.present)
                    vectors = batch.vectors[batch.present].astype(np.float32)
                    present[numbers] = True
                    add(vectors, numbers)
                    nearest.meet(vectors, numbers, part, start)
        contents = Contents(
            tuple(part for part, _, _ in group),
            np.array([size for _, size, _ in group], dtype=np.int64),
            starts,
            np.packbits(present),
            np.empty(0, np.int64),
            nearest.found,
        )
        return write_segment(self.output, self.training, contents, lambda path: _write(index, path))


def groups(numbered: NumberedRows, parts: Sequence[int], kind: IndexKind) -> list[Group]:
    """Parts in their order, in pieces of work. A graph is one piece."""
    dataset, rows = numbered.dataset, np.diff(numbered.starts)
    dim, cores = max(model.dim for model in dataset.models), os.cpu_count() or 1
    code = {"ivf": dim, "ivfpq": code_size(dim)}.get(kind, 0) + 8
    most = int(min(_PIECE, _OF_MEMORY * memory() / cores)) // code
    total = sum(int(rows[part]) for part in parts)
    size = total if kind == "hnsw" else min(most, max(_AT_LEAST, -(-total // cores)))
    made: list[Group] = []
    group: list[tuple[str, int, int]] = []
    for number in parts:
        if group and sum(n for _, _, n in group) + rows[number] > size:
            made.append(tuple(group))
            group = []
        group.append((dataset.parts[number], dataset.stamps[number], int(rows[number])))
    return [*made, tuple(group)] if group else made


@dataclass(frozen=True)
class _Adding:
    """Adds vectors [n, dim] under their numbers to an index, whose cells a GPU finds where there is one."""

    index: Any
    cells: Any

    @classmethod
    def to(cls, index: Any) -> _Adding:
        ivf = cells_of(index)
        return cls(index, None if ivf is None else assigner(ivf.quantizer))

    def __call__(self, vectors: Vectors, numbers: Numbers) -> None:
        if not len(vectors):
            return
        if self.cells is None:
            self.index.add_with_ids(vectors, numbers)
            return
        _, cells = self.cells.search(vectors, 1)
        pointer = faiss().swig_ptr
        self.index.add_core(len(vectors), pointer(vectors), pointer(numbers), pointer(cells))


class _Meeting:
    """Compares the queries with all vectors as they come by, and keeps the nearest."""

    def __init__(self, queries: Queries) -> None:
        self._queries = queries
        self.found = Nearest.none(len(queries.sides))

    def meet(self, vectors: Vectors, numbers: Numbers, part: str, start: int) -> None:
        """numbers: of the vectors in the segment, ascending. start: the part's first row there."""
        scores = vectors @ self._queries.vectors.T
        for query, of in enumerate(self._queries.parts):
            if of == part:  # a query's own row is no match
                scores[numbers == start + self._queries.rows[query], query] = -np.inf
        better = scores > self.found.scores[:, -1]
        rows = np.flatnonzero(better.any(axis=1))
        if len(rows):
            kept: Scores = np.where(better[rows], scores[rows], -np.inf).T
            numbered = np.broadcast_to(numbers[rows], kept.shape)
            if len(rows) > KEPT:
                best = np.argpartition(-kept, KEPT - 1, axis=1)[:, :KEPT]
                kept, numbered = np.take_along_axis(kept, best, 1), np.take_along_axis(numbered, best, 1)
            self.found = self.found.with_more(np.where(np.isfinite(kept), numbered, -1), kept)


@lru_cache(1)
def _trained(path: Path) -> Any:
    """Read once in each process. A file of that name never changes."""
    return faiss().read_index(str(path))


def _write(index: Any, path: Path) -> Numbers:
    """Returns how many vectors each cell has; none for a graph."""
    ivf = cells_of(index)
    if ivf is None:
        faiss().write_index(index, str(path))
        return np.empty(0, np.int64)
    lists, turned = ivf.invlists, faiss().rev_swig_ptr
    with path.open("wb") as file:
        for cell in range(ivf.nlist):
            if size := lists.list_size(cell):
                file.write(turned(lists.get_codes(cell), size * ivf.code_size))
                file.write(turned(lists.get_ids(cell), size))
    return np.array([lists.list_size(cell) for cell in range(ivf.nlist)], dtype=np.int64)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """So many threads of FAISS's for calls from this thread: others run pieces, too."""
    before = faiss().omp_get_max_threads()
    faiss().omp_set_num_threads(count)
    try:
        yield
    finally:
        faiss().omp_set_num_threads(before)
