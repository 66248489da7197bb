"""How similar the pairs of each label, and of each source, are."""

from __future__ import annotations

from dataclasses import dataclass

import duckdb

from ..dataset.sql import literal
from .frame import TOP
from .similarity import Similarity
from .sums import UNIT

_MOST = 16  # shown, the most frequent


@dataclass(frozen=True)
class GroupSimilarity:
    """rows: with a similarity. kept: those that are among the top 30 % of all."""

    name: str
    rows: int
    mean: float
    kept: int


@dataclass(frozen=True)
class Grouped:
    """Of one model. by: what the groups are, such as `label`. groups: the most frequent of `count`."""

    alias: str
    by: str
    count: int
    groups: tuple[GroupSimilarity, ...]


def grouped(connection: duckdb.DuckDBPyConnection, similarity: Similarity) -> list[Grouped]:
    """Of the sums (see sums.py): by label where rows have labels, and by source where they have addresses."""
    least = similarity.threshold_of(TOP)
    found = []
    for by in ("label", "source"):
        rows = connection.execute(
            f"SELECT name, sum(rows) AS rows, sum(total), sum(rows) FILTER (number >= {least!r}), count(*) OVER () "
            f"FROM sums WHERE what = {literal(f'{by} {similarity.alias}')} "
            f"GROUP BY name ORDER BY rows DESC, name LIMIT {_MOST}"
        ).fetchall()
        if rows:
            groups = tuple(
                GroupSimilarity(name, int(count), int(total) / (int(count) * UNIT), int(kept or 0))
                for name, count, total, kept, _ in rows
            )
            found.append(Grouped(similarity.alias, by, rows[0][-1], groups))
    return found
