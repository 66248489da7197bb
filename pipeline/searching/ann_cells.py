"""The kind of an index, how many cells it has, and training it."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from ..choices import IndexKind
from ..errors import UserError
from ..records import Vectors
from .faiss_library import assigner, cells_of, faiss, has_gpu

GROWN = 4  # times the rows that an index was trained for, from which on it is trained anew
_A_CELL, _FEWEST_A_CELL = 64, 30  # vectors to train each cell on; FAISS's advice is 30 to 256
_LEAST = 256  # vectors that short codes can be learnt from
_FOR_CODES = 128  # vectors to train each of the 256 short codes on
_LINKS = 32  # of each vector in the graph of hnsw
_SHARE = 0.7  # of the machine's memory that a graph may fill
_TRAINED_ON = 0.15  # of the machine's memory that the vectors to train on fill; as stored they take half again
_FLAT, _IVF = 50_000, 20_000_000  # vectors, up to which auto takes these kinds
_ROUNDS = 10  # of k-means, as FAISS has it for inverted files
_GRAPH_OF_CELLS = 1 << 16  # cells, from which on a graph finds the nearest: comparing all of them is quicker below
_TWO_LEVELS = 1 << 14  # cells, from which on they are trained within coarser ones
_CAREFUL = 256  # centroids that a search of that graph keeps in view: it misses next to none


def memory() -> int:
    """Bytes of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def kind_for(requested: str, vectors: int, dim: int) -> IndexKind:
    """The kind to build; auto goes by the number of vectors. UserError where they are too few or too many for it."""
    if requested == "auto":
        requested = "flat" if vectors <= _FLAT else "ivf" if vectors <= _IVF else "ivfpq"
    if requested == "ivfpq" and vectors < _LEAST:
        raise UserError(f"--kind ivfpq needs at least {_LEAST} vectors, and there are {vectors}: use --kind flat")
    if requested == "hnsw" and (needed := vectors * (2 * dim + 8 * _LINKS + 16)) > _SHARE * memory():
        raise UserError(f"--kind hnsw needs {needed / 1e9:,.0f} GB of memory for its graph: use --kind ivf or ivfpq")
    return requested  # type: ignore[return-value]  # one of the command line's choices


def cells_for(requested: int | None, vectors: int, dim: int) -> int:
    """How many cells to make, at most one a vector.

    By FAISS's "Guidelines to choose an index" (github.com/facebookresearch/faiss/wiki): 4 to 16 times the root of the
    vectors up to 10⁶, 65,536 up to 10⁷, 262,144 up to 10⁸, and 1,048,576 above, each trained on 30 to 256 vectors. Here
    it is 4 times the root up to 10⁷, since a CPU trains 12,000 cells in minutes and 65,536 in an hour; and fewer where
    this machine's memory does not hold the vectors to train them on.
    """
    if requested:
        return min(requested, vectors)
    advised = round(4 * vectors**0.5) if vectors < 10**7 else 1 << 18 if vectors < 10**8 else 1 << 20
    return max(1, min(advised, vectors, _trainable(dim) // _FEWEST_A_CELL))


def sample_size(nlist: int, dim: int) -> int:
    """Vectors to train on: 64 a cell, fewer where memory does not hold them, and one a cell at least."""
    return max(min(max(_A_CELL * nlist, 1 << 14), _trainable(dim)), nlist)


def least_sample(kind: IndexKind, nlist: int) -> int:
    """The fewest vectors that FAISS trains with."""
    return max(nlist, _LEAST if kind == "ivfpq" else 1)


def trained(kind: IndexKind, nlist: int, sample: Vectors) -> Any:
    """An empty index, the same for the same sample. sample: float32 [n, dim]."""
    dim, inner = sample.shape[1], faiss().METRIC_INNER_PRODUCT
    if kind == "hnsw":
        graph = faiss().index_factory(dim, f"HNSW{_LINKS}_SQfp16", inner)
        graph.train(sample[:_LEAST])
        return faiss().IndexIDMap(graph)
    graph_of_cells = f"_HNSW{_LINKS}" if nlist >= _GRAPH_OF_CELLS else ""
    codes = "SQ8" if kind == "ivf" else f"PQ{code_size(dim)}"
    index = faiss().index_factory(dim, f"IVF{nlist}{graph_of_cells},{codes}", inner)
    ivf = cells_of(index)
    quantizer = faiss().downcast_index(ivf.quantizer)
    if graph_of_cells:
        quantizer.hnsw.efConstruction = quantizer.hnsw.efSearch = _CAREFUL
    quantizer.add(_two_levels(sample, nlist) if nlist >= _TWO_LEVELS else _centroids(sample, nlist))
    if kind == "ivfpq":
        ivf.pq.cp.min_points_per_centroid = 1  # without this FAISS warns on stderr of small samples
        ivf.pq.cp.max_points_per_centroid = _FOR_CODES
    index.train(sample)  # the codes alone: the cells are there
    return index


def code_size(dim: int) -> int:
    """Bytes of a short code: one for every eight numbers, or the next smaller count that divides `dim`."""
    return next(size for size in range(max(1, dim // 8), 0, -1) if dim % size == 0)


def _trainable(dim: int) -> int:
    return int(_TRAINED_ON * memory()) // (4 * dim)


def _centroids(sample: Vectors, cells: int) -> Vectors:
    """float32 [cells, dim], of length one."""
    kmeans = faiss().Kmeans(
        sample.shape[1],
        cells,
        niter=_ROUNDS,
        spherical=True,
        gpu=has_gpu(),
        min_points_per_centroid=1,
        max_points_per_centroid=256,
    )
    kmeans.train(sample)
    centroids: Vectors = kmeans.centroids
    return centroids


def _two_levels(sample: Vectors, cells: int) -> Vectors:
    """The same by way of about the root of so many coarser cells, each divided by its share of the sample: the time is
    that of the roots."""
    coarse = _centroids(sample[:: max(1, len(sample) // (256 * round(cells**0.5)))], round(cells**0.5))
    flat = faiss().IndexFlatIP(sample.shape[1])
    flat.add(coarse)
    nearest = assigner(flat).search(sample, 1)[1][:, 0]
    ends = np.cumsum(np.bincount(nearest, minlength=len(coarse))) * cells // len(sample)
    order = np.argsort(nearest, kind="stable")
    members = np.split(order, np.searchsorted(nearest[order], np.arange(1, len(coarse))))
    shares = np.diff(ends, prepend=0)
    return np.vstack([_centroids(sample[rows], int(n)) for rows, n in zip(members, shares, strict=True) if n])
