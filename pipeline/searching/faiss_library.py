"""FAISS, where it is installed: its module, its GPUs, and indexes that share what was trained."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from ...clipmodel.cpu import openblas_kernels
from ..errors import UserError
from ..records import Vectors

Found = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]  # scores and numbers, [queries, k]; number -1: none


@cache
def faiss() -> Any:
    """FAISS's module. UserError where it is not installed."""
    try:
        with openblas_kernels():
            import faiss
    except ImportError as error:
        raise UserError("indexes need FAISS: pip install 'clipmill[search]'") from error
    return faiss


def has_gpu() -> bool:
    """Whether this FAISS is made for GPUs, and there are any."""
    return bool(getattr(faiss(), "get_num_gpus", lambda: 0)())


def assigner(quantizer: Any) -> Any:
    """What finds the nearest cells of many vectors: the quantizer itself, or its centroids on all GPUs."""
    if not has_gpu():
        return quantizer
    flat = faiss().IndexFlatIP(quantizer.d)
    flat.add(quantizer.reconstruct_n(0, quantizer.ntotal))
    return faiss().index_cpu_to_all_gpus(flat)


def cells_of(index: Any) -> Any:
    """The inverted file that an index is; None for a graph."""
    return index if isinstance(index, faiss().IndexIVF) else None


def empty_like(trained: Any) -> Any:
    """An empty inverted file with the same quantizer, not a copy of it, and the same codes."""
    kind, inner = faiss(), faiss().METRIC_INNER_PRODUCT
    quantizer = kind.downcast_index(trained.quantizer)
    if isinstance(trained, kind.IndexIVFPQ):
        index = kind.IndexIVFPQ(quantizer, trained.d, trained.nlist, trained.pq.M, trained.pq.nbits, inner)
        index.pq = trained.pq
    else:
        coder = trained.sq.qtype
        index = kind.IndexIVFScalarQuantizer(quantizer, trained.d, trained.nlist, coder, inner, trained.by_residual)
        index.sq = trained.sq
    index.is_trained = True
    index.referenced_objects.append(trained)  # which owns the quantizer
    return index


def search_cells(index: Any, queries: Vectors, count: int, cells: Found, selector: Any = None) -> Found:
    """The nearest of the vectors in some cells, which the quantizer has found. queries: float32 [n, dim]."""
    shape, pointer = (len(queries), count), faiss().swig_ptr
    scores, numbers = np.empty(shape, np.float32), np.empty(shape, np.int64)
    parameters = faiss().SearchParametersIVF(nprobe=cells[1].shape[1], sel=selector)
    index.search_preassigned_c(
        len(queries),
        pointer(queries),
        count,
        pointer(cells[1]),
        pointer(cells[0]),
        pointer(scores),
        pointer(numbers),
        False,
        parameters,
        None,
    )
    return scores, numbers


def compare_whole(graph: Any, queries: Vectors, count: int, allowed: npt.NDArray[np.bool_] | None) -> Found:
    """The nearest of all vectors that an IndexIDMap of a graph holds, without using the graph. allowed: of its
    numbers; -1 never is."""
    numbers = faiss().vector_to_array(graph.id_map)
    chosen = numbers >= 0 if allowed is None else (numbers >= 0) & allowed[numbers]
    storage = faiss().downcast_index(faiss().downcast_index(graph.index).storage)
    scores, rows = storage.search(queries, count, params=faiss().SearchParameters(sel=selector_of(chosen)))
    return scores, np.where(rows >= 0, numbers[rows], -1)


def selector_of(allowed: npt.NDArray[np.bool_]) -> Any:
    """Of the numbers that are allowed, for a search. bool [numbers]."""
    bits = np.packbits(allowed, bitorder="little")
    selector = faiss().IDSelectorBitmap(bits)
    selector.bits = bits  # or the memory would be given back
    return selector
