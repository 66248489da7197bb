"""Exact search: every vector against the query, at the speed at which memory gives them."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from threading import Barrier

import numpy as np
import numpy.typing as npt
import torch

from ..records import Vector, Vectors
from .array_runs import Runs, Stored
from .numbered_rows import Mask
from .sieve import Scores, Sieve

Numbers = npt.NDArray[np.int64]

_TASK = 1 << 16  # rows a thread takes at a time
_BLOCK = 1 << 18  # numbers converted to float32 at a time: they fit a core's cache
_THREADS = 16  # more do not make memory faster
_SPARSE = 8  # where fewer than one row in so many is allowed, only the allowed are read


def best(
    vectors: Stored | Runs, queries: Vectors, k: int, allowed: Mask, longest: float = math.inf
) -> list[tuple[Numbers, Scores]]:
    """For each query [queries, dim] the k rows with the highest scores among the allowed, best first, and their
    scores; of equal scores the earlier row comes first. Fewer where fewer are allowed, or score a finite number.

    longest: no finite row is longer. Where it is known, most rows need no exact score (sieve.py).
    """
    nearest = [(np.empty(0, np.int64), np.empty(0, np.float32)) for _ in queries]
    sieve = _threads().submit(Sieve.of, vectors, queries[0], longest).result() if len(queries) == 1 and k else None

    def task(start: int) -> list[tuple[Numbers, Scores]]:
        inside = np.flatnonzero(allowed[start : start + _TASK])
        block = vectors[start : start + _TASK]
        if sieve is not None and len(inside) * _SPARSE >= len(block):
            scores = nearest[0][1]  # of the tasks that are done
            floor = float(scores[-1]) if len(scores) == k else -math.inf
            inside = inside[sieve.passes(block, k, floor, inside)]
        found = (
            similarities(block[inside], queries)
            if len(inside) * _SPARSE < len(block)
            else similarities(block, queries)[inside]
        )
        return [highest(start + inside, of_query, k) for of_query in found.T]

    for of_task in _threads().map(task, range(0, len(vectors), _TASK)):
        nearest[:] = [
            highest(np.concatenate([rows, more]), np.concatenate([scores, others]), k)
            for (rows, scores), (more, others) in zip(nearest, of_task, strict=True)
        ]
    return nearest


def every(vectors: Stored | Runs, query: Vector, allowed: Mask) -> Scores:
    """float32 [rows]: the score of each row for a query [dim]; NaN for rows that are not allowed, or score no finite
    number."""
    scores = np.full(len(vectors), np.nan, dtype=np.float32)

    def task(start: int) -> None:
        found = similarities(vectors[start : start + _TASK], query[None])[:, 0]
        usable = allowed[start : start + _TASK] & np.isfinite(found)
        np.copyto(scores[start : start + _TASK], found, where=usable)

    for _ in _threads().map(task, range(0, len(vectors), _TASK)):
        pass
    return scores


def highest(rows: Numbers, scores: Scores, k: int) -> tuple[Numbers, Scores]:
    """The k highest scores, best first, of equal ones the lower row. Infinite and NaN scores are left out: they
    would come before every real score."""
    usable = np.isfinite(scores)
    if not usable.all():
        rows, scores = rows[usable], scores[usable]
    if len(scores) > k:
        few = scores >= np.partition(scores, -k)[-k]
        rows, scores = rows[few], scores[few]
    order = np.lexsort((rows, -scores))[:k]
    return rows[order], scores[order]


def similarities(stored: Stored, queries: Vectors) -> Scores:
    """[n, dim] and [queries, dim] -> their dot products in float32, [n, queries].

    One query meets row after row, so that equal rows score equally; of several the products are computed in tiles, and
    the last bits depend on a row's position.
    """
    scores = np.empty((len(stored), len(queries)), dtype=np.float32)
    if len(queries) == 1:
        query, only = queries[0], scores[:, 0]
        with np.errstate(invalid="ignore", over="ignore"):  # stored numbers may be infinite
            for start, floats in _blocks(stored):
                np.vecdot(floats, query, out=only[start : start + len(floats)])
    else:
        turned = torch.from_numpy(queries).T
        for start, floats in _blocks(stored):
            out = scores[start : start + len(floats)]
            torch.mm(torch.from_numpy(floats), turned, out=torch.from_numpy(out))
    return scores


def _blocks(stored: Stored) -> Iterator[tuple[int, Scores]]:
    """Blocks of rows in float32, in the same memory one after another, with where they begin. Threads take turns in
    Python, so that little Python runs for each block."""
    size = max(1, _BLOCK // max(1, stored.shape[1]))
    rows = torch.from_numpy(np.asarray(stored))  # not np.memmap, whose slices are made in Python
    is_float = rows.dtype == torch.float32
    block = torch.empty((size, stored.shape[1]))
    floats: Scores = block.numpy()
    start = 0
    for part in rows.split(size):
        if is_float:
            yield start, part.numpy()
        elif start + size <= len(stored):
            block.copy_(part)  # at four times the speed of NumPy's cast
            yield start, floats
        else:
            yield start, part.float().numpy()
        start += size


@cache
def _threads() -> ThreadPoolExecutor:
    """Threads in which torch uses no further threads: those would wait for each other after every block."""
    _warn_once_silently()
    count = min(os.cpu_count() or 1, _THREADS)
    before, started = torch.get_num_threads(), Barrier(count)
    pool = ThreadPoolExecutor(count, thread_name_prefix="scan", initializer=torch.set_num_threads, initargs=(1,))
    wait([pool.submit(started.wait) for _ in range(count)])
    torch.set_num_threads(before)  # threads that start later take up this number
    return pool


def _warn_once_silently() -> None:
    """Torch warns once a process of memory that cannot be written to; here it is only read: hide that warning."""
    array = np.zeros(1, dtype=np.float32)
    array.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.from_numpy(array)
