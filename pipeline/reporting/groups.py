"""How similar the pairs of each label, and of each source, are."""

from __future__ import annotations

from dataclasses import dataclass

import duckdb

from ..dataset.dataset import Dataset
from ..dataset.sql import identifier
from .similarity import TOP, Similarity

_MOST = 16  # shown, the most frequent
_DOMAIN = r"regexp_extract(lower(url), '^[a-z]+://(?:[^/@]*@)?(?:www\.)?([^/:?#]+)', 1)"


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


def grouped(
    connection: duckdb.DuckDBPyConnection, dataset: Dataset, similarity: Similarity, labelled: bool
) -> list[Grouped]:
    """By label where the view `labels` is there (see labels.py), and by source where the rows have addresses."""
    prefix = next(model.prefix for model in dataset.models if model.alias == similarity.alias)
    value = f"{identifier(f'{prefix}similarity')}::DOUBLE"
    least = similarity.threshold_of(TOP)
    sources = {}
    if labelled:
        sources["label"] = f"SELECT labels.label AS name, {value} AS value FROM pairs JOIN labels USING (shard, row)"
    if "url" in dataset.schema.names:
        sources["source"] = f"SELECT {_DOMAIN} AS name, {value} AS value FROM pairs WHERE url IS NOT NULL"
    found = []
    for by, query in sources.items():
        rows = connection.execute(
            f"SELECT name, count(*) AS rows, avg(value), count(*) FILTER (value >= {least!r}), count(*) OVER () "
            f"FROM ({query}) WHERE isfinite(value) AND name <> '' GROUP BY name ORDER BY rows DESC, name LIMIT {_MOST}"
        ).fetchall()
        if rows:
            groups = tuple(GroupSimilarity(name, count, mean, kept) for name, count, mean, kept, _ in rows)
            found.append(Grouped(similarity.alias, by, rows[0][-1], groups))
    return found
