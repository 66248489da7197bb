"""Recall of an index against exact search, measured with queries that it was not trained on."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import numpy as np

from ..records import Vectors
from .ann import EFFORT, Card, Index, candidates, faiss
from .dense import Dense
from .numbered_rows import NumberedRows
from .scan import Numbers, Scores, best, similarities

K = 10
_QUERIES = 100  # of each side
_TIMED = 20  # of them, one by one
_SAME = 1e-6  # scores of the same row may differ by this much, by the way they are computed


@dataclass(frozen=True)
class Queries:
    """vectors: float32 [n, dim]. rows: int64 [n], each query's own, which does not count as found; -1 for queries of
    the other side."""

    vectors: Vectors
    rows: Numbers


def held_out(numbered: NumberedRows, column: str, dense: Dense, others: str | None) -> dict[str, Queries]:
    """Queries by side: some rows of the indexed column, and some of the other side's column `others` (captions that
    look for images)."""
    random = np.random.default_rng(0)
    present = np.flatnonzero(dense.present)
    count = min(_QUERIES, max(1, len(present) // 10))
    rows = np.sort(random.choice(present, count, replace=False))
    queries = {_side(column): Queries(dense.vectors[rows].astype(np.float32), rows)}
    if others is not None:
        some = np.sort(random.choice(present, count, replace=False))
        read = [row[others] for row in numbered.read(some.tolist(), [others])]
        if vectors := [vector for vector in read if vector is not None]:
            queries[_side(others)] = Queries(np.array(vectors, dtype=np.float32), np.full(len(vectors), -1))
    return queries


def measured(card: Card, index: Any, dense: Dense, queries: Mapping[str, Queries], target: float) -> Card:
    """The card with the least effort whose average recall@10 reaches `target` for the queries of every side; with the
    greatest effort where none does."""
    truths = {side: _truth(dense, of_side) for side, of_side in queries.items()}
    efforts = [2**n for n in range(4 if card.kind == "hnsw" else 0, 14)]
    if card.nlist:
        efforts = [*(effort for effort in efforts if effort < card.nlist), card.nlist]
    for effort in efforts:
        faiss().ParameterSpace().set_index_parameter(index, EFFORT[card.kind], effort)
        recall = {side: _recall(card, index, dense, queries[side], truths[side]) for side in queries}
        card = replace(card, effort=effort, recall={side: round(share, 4) for side, share in recall.items()})
        if min(recall.values()) >= target:
            break
    some = next(iter(queries.values())).vectors[:_TIMED]
    exact = _seconds(lambda query: best(dense.vectors, query[None], K, dense.present, dense.longest), some)
    approximate = _seconds(lambda query: Index(card, index).nearest(dense.vectors, query, K), some)
    return replace(card, exact_seconds=exact, seconds=approximate)


def _truth(dense: Dense, queries: Queries) -> list[Scores]:
    """The scores of the ten nearest, by query."""
    nearest = best(dense.vectors, queries.vectors, K + 1, dense.present)
    return [scores[rows != own][:K] for (rows, scores), own in zip(nearest, queries.rows, strict=True)]


def _recall(card: Card, index: Any, dense: Dense, queries: Queries, truths: list[Scores]) -> float:
    shares = []
    for query, own, truth in zip(queries.vectors, queries.rows, truths, strict=True):
        rows = candidates(index, card.kind, query, K)
        scores = np.sort(similarities(dense.vectors[rows[rows != own]], query[None])[:, 0])[-K:]
        shares.append((scores >= truth[-1] - _SAME).sum() / len(truth) if len(truth) else 1.0)
    return float(np.mean(shares))


def _seconds(search: Callable[[Vectors], object], queries: Vectors) -> float:
    """The median time of one query."""
    times = []
    for query in queries:
        began = time.perf_counter()
        search(query)
        times.append(time.perf_counter() - began)
    return round(median(times), 6)


def _side(column: str) -> str:
    return column.removesuffix("_embedding").rpartition("_")[2]
