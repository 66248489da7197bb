"""Making an index with FAISS: train it on a sample, fill pieces of it with rows, put the pieces together."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..choices import IndexKind
from ..errors import UserError
from ..records import Vectors
from .ann import INDEX, LISTS, faiss
from .runs import Runs
from .scan import Numbers, Stored

SAMPLE = 1 << 19  # vectors to train on at most; 1 GB of 512 numbers each
_PIECE = 1 << 29  # bytes of codes that are held before they are written
_BLOCK = 1 << 14  # vectors made float32 at a time
_A_CELL = 64  # vectors to train each cell on
_LEAST = 256  # vectors that short codes can be learnt from
_LINKS = 32  # of each vector in the graph of hnsw
_SHARE = 0.7  # of the machine's memory that a graph may fill
_FLAT, _IVF = 50_000, 20_000_000  # vectors, up to which auto takes these kinds


def kind_for(requested: str, vectors: int, dim: int) -> IndexKind:
    """The kind to build; auto goes by the number of vectors. UserError where they are too few or too many for it."""
    if requested == "auto":
        requested = "flat" if vectors <= _FLAT else "ivf" if vectors <= _IVF else "ivfpq"
    if requested == "ivfpq" and vectors < _LEAST:
        raise UserError(f"--kind ivfpq needs at least {_LEAST} vectors, and there are {vectors}: use --kind flat")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if requested == "hnsw" and (needed := vectors * (2 * dim + 8 * _LINKS + 16)) > _SHARE * memory:
        raise UserError(f"--kind hnsw needs {needed / 1e9:,.0f} GB of memory for its graph: use --kind ivf or ivfpq")
    return requested  # type: ignore[return-value]  # one of the command line's choices


def cells_for(requested: int | None, vectors: int) -> int:
    return min(requested or max(1, round(2 * vectors**0.5)), vectors)


def sample_size(nlist: int) -> int:
    return max(min(max(_A_CELL * nlist, 1 << 14), SAMPLE), nlist)


def least_sample(kind: IndexKind, nlist: int) -> int:
    """The fewest vectors that FAISS trains with."""
    return max(nlist, _LEAST if kind == "ivfpq" else 1)


def trained(kind: IndexKind, nlist: int, sample: Vectors) -> Any:
    """An empty index. sample: float32 [n, dim]."""
    dim = sample.shape[1]
    codes = {"ivf": f"IVF{nlist},SQfp16", "ivfpq": f"IVF{nlist},PQ{_code_size(dim)}", "hnsw": f"HNSW{_LINKS}_SQfp16"}
    index = faiss().index_factory(dim, codes[kind], faiss().METRIC_INNER_PRODUCT)
    if kind != "hnsw":
        index.cp.min_points_per_centroid = 1  # without this FAISS warns on stderr of small cells
    if kind == "ivfpq":
        index.pq.cp.min_points_per_centroid = 1
    index.train(sample)
    return faiss().IndexIDMap(index) if kind == "hnsw" else index


def piece_rows(kind: IndexKind, dim: int) -> int:
    """Rows that are added before a piece is written; a graph is one piece."""
    code = {"ivf": 2 * dim + 8, "ivfpq": _code_size(dim) + 8}
    return _PIECE // code[kind] if kind in code else 1 << 62


def fill(index: Any, vectors: Stored | Runs, rows: Numbers, on_rows: Callable[[int], None] = lambda _: None) -> None:
    """Add some rows of `vectors` [rows, dim] under their numbers."""
    for start in range(0, len(rows), _BLOCK):
        some = rows[start : start + _BLOCK]
        index.add_with_ids(vectors[some].astype(np.float32), some)
        on_rows(len(some))


def put_together(kind: IndexKind, empty: Path, pieces: list[Path], folder: Path) -> None:
    """Write the complete index into `folder`. Its cells go from file to file, never through memory all at once."""
    if kind == "hnsw":
        (piece,) = pieces
        piece.replace(folder / INDEX)
        return
    index = faiss().read_index(str(empty))
    ivf = faiss().extract_index_ivf(index)
    parts = [faiss().read_index(str(piece), faiss().IO_FLAG_MMAP) for piece in pieces]
    cells = [faiss().extract_index_ivf(part).invlists for part in parts]
    sizes = np.array([sum(lists.list_size(cell) for lists in cells) for cell in range(ivf.nlist)], dtype=np.uint64)
    with (folder / LISTS).open("wb") as file:
        for cell in range(ivf.nlist):
            _write_cell(file, cell, [lists for lists in cells if lists.list_size(cell)])
    on_disk = faiss().OnDiskInvertedLists(ivf.nlist, ivf.code_size, LISTS)
    on_disk.set_all_lists_sizes(faiss().swig_ptr(sizes))
    on_disk.totsize = (folder / LISTS).stat().st_size
    ivf.replace_invlists(on_disk, True)
    on_disk.this.disown()
    index.ntotal = ivf.ntotal = int(sizes.sum())
    faiss().write_index(index, str(folder / INDEX))


def _write_cell(file: BinaryIO, cell: int, parts: list[Any]) -> None:
    """In FAISS's layout: the codes of a cell, then its row numbers. (FAISS's own merge prints to stdout.)"""
    for part in parts:
        file.write(faiss().rev_swig_ptr(part.get_codes(cell), part.list_size(cell) * part.code_size))
    for part in parts:
        file.write(faiss().rev_swig_ptr(part.get_ids(cell), part.list_size(cell)))


def _code_size(dim: int) -> int:
    """Bytes of a short code: one for every eight numbers, or the next smaller count that divides `dim`."""
    return next(size for size in range(max(1, dim // 8), 0, -1) if dim % size == 0)
