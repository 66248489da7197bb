"""Recall of an index against exact search, measured with queries that it was not trained on. Their exact nearest rows
were found as its segments were filled (ann_build.py), so nothing is read again."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from statistics import median

import numpy as np

from ..records import Vectors
from .ann import MOST_EFFORT, Card, Index, more_than
from .ann_files import Queries
from .ann_merge import nearest_of
from .numbered_rows import Mask
from .scan import Numbers, best
from .segment import Nearest

K = 10
_TIMED = 20  # queries, one by one
_BATCH = 1 << 16  # vectors that exact search is timed with
_SAME = 1e-5  # scores of the same row may differ by this much, by the way they are computed


def measured(index: Index, queries: Queries, target: float) -> Card:
    """The card with the least effort whose average recall@10 reaches `target` for the queries of every side; with the
    greatest effort where none does."""
    card = index.card
    nearest = nearest_of([segment.placed for segment in index.segments])
    efforts = [2**n for n in range(0 if card.nlist else 4, 14)]
    if card.nlist:
        efforts = [*(effort for effort in efforts if effort < card.nlist), card.nlist]
    own = _own(index, queries)
    for effort in efforts:
        recall = _recall(index, queries, nearest, own, effort)
        card = replace(card, effort=effort, recall=recall)
        if min(recall.values()) >= target:
            break
    timed = replace(index, card=card)
    return replace(card, seconds=seconds(lambda query: timed.candidates(query, K), queries.vectors[:_TIMED]))


def exact_seconds(vectors: Vectors, query: Vectors) -> float:
    """What comparing one query takes for each row. vectors: some rows. query: float32 [dim]."""
    some, everything = vectors[:_BATCH], np.ones(len(vectors[:_BATCH]), dtype=np.bool_)
    return seconds(lambda one: best(some, one[None], K, everything, 1.01), np.repeat(query[None], 5, 0)) / len(some)


def seconds(search: Callable[[Vectors], object], queries: Vectors) -> float:
    """The median time of one query."""
    times = []
    for query in queries:
        began = time.perf_counter()
        search(query)
        times.append(time.perf_counter() - began)
    return float(f"{median(times):.3g}")


def _own(index: Index, queries: Queries) -> Numbers:
    """Each query's own row as a position, int64 [queries]; -1 where it is not there."""
    own = np.full(len(queries.sides), -1, np.int64)
    for segment in index.segments:
        number = {part: at for at, part in enumerate(segment.placed.contents.parts)}
        for query, part in enumerate(queries.parts):
            if part in number and (place := segment.placed.places[number[part]]) >= 0:
                own[query] = place + queries.rows[query]
    return own


def _recall(index: Index, queries: Queries, nearest: Nearest, own: Numbers, effort: int) -> Mapping[str, float]:
    """By side. A row that scores as high as the tenth counts as one of the ten."""
    count = min(more_than(index.card.kind, K) + 1, index.card.vectors)
    _, positions = index.search(queries.vectors, count, min(effort, MOST_EFFORT))
    shares: dict[str, list[float]] = {}
    for query, side in enumerate(queries.sides):
        known: Mask = nearest.rows[query] >= 0
        rows, scores = nearest.rows[query][known], nearest.scores[query][known]
        wanted = min(K, len(rows))
        good = rows[scores >= scores[wanted - 1] - _SAME] if wanted else rows
        hits = np.isin(positions[query][positions[query] != own[query]], good).sum()
        shares.setdefault(side, []).append(min(1.0, hits / wanted) if wanted else 1.0)
    return {side: round(float(np.mean(some)), 4) for side, some in shares.items()}
