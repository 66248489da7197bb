"""A sample of a column of embeddings, read from some of the parts: what an index is trained on, and its queries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..dataset.dataset import Dataset
from ..records import Vectors
from ..running.scatter import scatter
from .ann_files import Queries
from .array_runs import Stored
from .numbered_rows import NumberedRows
from .part_vectors import batches
from .scan import Numbers

_AMONG = 4  # rows that are read for each that is wanted: parts differ
_QUERIES = 100  # of each side
_OURS = 0x5EED  # a seed that nobody else has: made data may come from the small ones, and a sample would be skewed


@dataclass(frozen=True)
class Survey:
    """pool: vectors as stored, [n, dim]. positions: int64 [n], of their rows. vectors: how many rows of the dataset
    have one, counted where all parts were read, else reckoned from those that were."""

    pool: Stored
    positions: Numbers
    vectors: int


@dataclass(frozen=True)
class _Part:
    """Reads a part, and draws some of its vectors."""

    dataset: Dataset
    column: str

    def __call__(self, item: tuple[int, int, int]) -> tuple[Stored, Numbers, int]:
        """item: the part's number, its rows, and how many are wanted. Returns vectors, their rows in the part, and how
        many there are in all."""
        number, rows, wanted = item
        vectors, kept = [], []
        count = 0
        random = np.random.default_rng([_OURS, number])
        for batch in batches(self.dataset, self.dataset.parts[number], self.column, rows):
            present = np.flatnonzero(batch.present)
            count += len(present)
            share = random.random(len(present)) * rows < wanted
            vectors.append(batch.vectors[present[share]])
            kept.append(batch.first + present[share])
        if not vectors:
            return np.empty((0, self.dataset.schema.field(self.column).type.list_size)), np.empty(0, np.int64), 0
        return np.concatenate(vectors), np.concatenate(kept), count


def survey(numbered: NumberedRows, column: str, wanted: int, everything: bool, address: str) -> Survey:
    """About `wanted` vectors from parts drawn at random, the same each time. everything: all parts are read."""
    rows = np.diff(numbered.starts)
    order = np.random.default_rng(0).permutation(len(rows))
    enough = int(np.searchsorted(np.cumsum(rows[order]), _AMONG * wanted)) + 1
    chosen = np.sort(order if everything else order[:enough])
    share = 1.25 * wanted / max(1, int(rows[chosen].sum()))
    items = [(int(number), int(rows[number]), int(np.ceil(share * rows[number]))) for number in chosen]
    read = dict(scatter(_Part(numbered.dataset, column), items, address))
    of_parts = [read[item] for item in items]  # in their order, whichever came first
    total = sum(count for _, _, count in of_parts) * len(numbered) / max(1, int(rows[chosen].sum()))
    positions = [numbered.starts[item[0]] + kept for item, (_, kept, _) in zip(items, of_parts, strict=True)]
    return Survey(np.concatenate([pool for pool, _, _ in of_parts]), np.concatenate(positions), round(total))


def held_out(numbered: NumberedRows, column: str, surveyed: Survey, others: str | None) -> tuple[Queries, Numbers]:
    """Queries: some rows of the indexed column, and some of the other side's column `others` (captions that look for
    images). And which of the pool they are."""
    random = np.random.default_rng(0)
    count = min(_QUERIES, max(1, len(surveyed.pool) // 10))
    chosen = np.sort(random.choice(len(surveyed.pool), count, replace=False))
    own = surveyed.positions[chosen]
    numbers = np.searchsorted(numbered.starts, own, side="right") - 1
    parts = [numbered.dataset.parts[number] for number in numbers]
    vectors: list[Any] = list(surveyed.pool[chosen])
    if others is not None:
        some = np.sort(random.choice(surveyed.positions, count, replace=False))
        read = [row[others] for row in numbered.read(some.tolist(), [others])]
        vectors += [vector for vector in read if vector is not None]
    more = len(vectors) - count
    sides = (side_of(column),) * count + (side_of(others or ""),) * more
    rows = np.concatenate([own - numbered.starts[numbers], np.full(more, -1)])
    return Queries(np.array(vectors, dtype=np.float32), sides, (*parts, *[""] * more), rows), chosen


def training_sample(surveyed: Survey, queries: Numbers, size: int, least: int) -> Vectors:
    """float32 [n, dim]: at most `size` of the pool. Not the queries, unless there are fewer than `least` without
    them."""
    others = np.setdiff1d(np.arange(len(surveyed.pool)), queries)
    if len(others) < least:
        others = np.arange(len(surveyed.pool))
    chosen = np.random.default_rng(0).choice(others, min(size, len(others)), replace=False)
    return surveyed.pool[np.sort(chosen)].astype(np.float32)


def side_of(column: str) -> str:
    return column.removesuffix("_embedding").rpartition("_")[2]
