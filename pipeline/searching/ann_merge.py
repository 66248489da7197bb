"""Segments of an index that become one, when there are many small ones: each costs a search some time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..dataset.output import Output
from .ann import Segment
from .ann_files import write_segment
from .faiss_library import faiss
from .scan import Numbers
from .segment import Contents, Nearest, Placed

MOST = 8  # small segments; of more, one is made
_SMALL = 0.1  # of the index's rows
_LARGEST = 1 << 36  # bytes of a segment that others are merged into


def to_merge(segments: Sequence[Placed], code: int) -> list[list[Placed]]:
    """Which of them become one: small ones where there are many, and any that is not the dataset's any more by half.
    code: bytes of a vector in the index."""
    rows = sum(one.contents.rows for one in segments)
    small = [one for one in segments if one.contents.rows < _SMALL * rows]
    chosen = small if len(small) > MOST else []
    chosen += [one for one in segments if 2 * one.rows() < one.contents.rows and one not in chosen]
    merged: list[list[Placed]] = [[]]
    for one in chosen:
        if merged[-1] and sum(other.contents.rows for other in [*merged[-1], one]) * code > _LARGEST:
            merged.append([])
        merged[-1].append(one)
    return [some for some in merged if some]


def merge(output: Output, training: str, trained: Any, segments: Sequence[Placed]) -> str:
    """One segment of several, which stay; rows that are gone are left out. Cells go from file to file, never through
    memory all at once; a graph takes up the vectors of the smaller ones. Returns its name."""
    opened = [Segment.open(output, training, trained, one) for one in segments]
    into, contents = _together(segments)
    if trained is None:
        return write_segment(output, training, contents, lambda path: _write_graph(opened, into, path))
    ivfs = [one.index for one in opened]
    return write_segment(output, training, contents, lambda path: _write_cells(ivfs, into, path))


def _together(segments: Sequence[Placed]) -> tuple[list[Placed], Contents]:
    """The segments as they are placed in one of their parts that are there, which are in the dataset's order, and what
    it holds."""
    names = np.concatenate([np.array(one.contents.parts) for one in segments])
    stamps = np.concatenate([one.contents.stamps for one in segments])
    rows = np.concatenate([np.diff(one.contents.starts) for one in segments])
    positions = np.concatenate([one.places for one in segments])
    order = np.argsort(positions, kind="stable")[np.count_nonzero(positions < 0) :]
    starts = np.cumsum([0, *rows[order]], dtype=np.int64)
    places = np.full(len(rows), -1, np.int64)
    places[order] = starts[:-1]
    ends = np.cumsum([len(one.places) for one in segments])
    into = [Placed(one.contents, some) for one, some in zip(segments, np.split(places, ends[:-1]), strict=True)]
    present = _present(into, int(starts[-1]))
    parts = tuple(names[order].tolist())
    return into, Contents(parts, stamps[order], starts, present, np.empty(0, np.int64), nearest_of(into))


def nearest_of(segments: Sequence[Placed]) -> Nearest:
    """The nearest rows of each query in all segments, as positions in what they are placed in."""
    nearest = Nearest.none(len(segments[0].contents.nearest.rows))
    for one in segments:
        rows = one.positions(one.contents.nearest.rows)
        nearest = nearest.with_more(rows, np.where(rows >= 0, one.contents.nearest.scores, -np.inf))
    return nearest


def _present(into: Sequence[Placed], rows: int) -> Any:
    present = np.zeros(rows, dtype=np.bool_)
    for one in into:
        one.spread(present)
    return np.packbits(present)


def _write_cells(ivfs: Sequence[Any], into: Sequence[Placed], path: Path) -> Numbers:
    """In FAISS's layout: the codes of a cell, then its row numbers. Returns how many vectors each has. (FAISS's own
    merge prints to stdout.)"""
    cells, turned = np.zeros(ivfs[0].nlist, np.int64), faiss().rev_swig_ptr
    with path.open("wb") as file:
        for cell in range(ivfs[0].nlist):
            codes, rows = [], []
            for ivf, one in zip(ivfs, into, strict=True):
                if size := ivf.invlists.list_size(cell):
                    numbers = one.positions(turned(ivf.invlists.get_ids(cell), size))
                    there = numbers >= 0
                    codes.append(turned(ivf.invlists.get_codes(cell), size * ivf.code_size).reshape(size, -1)[there])
                    rows.append(numbers[there])
            for written in (*codes, *rows):
                file.write(written.tobytes())
            cells[cell] = sum(map(len, rows))
    return cells


def _write_graph(opened: Sequence[Segment], into: Sequence[Placed], path: Path) -> Numbers:
    """The first graph with the vectors of the others. What is gone stays in it without a number: others are found by
    way of it."""
    (first, *others), (place, *places) = (one.index for one in opened), into
    numbers = place.positions(faiss().vector_to_array(first.id_map))
    faiss().copy_array_to_vector(numbers, first.id_map)
    for index, one in zip(others, places, strict=True):
        rows = one.positions(faiss().vector_to_array(index.id_map))
        vectors = faiss().downcast_index(index.index).reconstruct_n(0, index.ntotal)
        first.add_with_ids(vectors[rows >= 0], rows[rows >= 0])
    faiss().write_index(first, str(path))
    return np.empty(0, np.int64)
