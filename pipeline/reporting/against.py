"""A dataset against another one: of other pairs, or of the same ones by another model."""

from __future__ import annotations

import math
from dataclasses import dataclass

import duckdb

from ..dataset.dataset import Dataset
from ..dataset.sql import identifier, register_storage, rows_of
from .frame import TOP
from .numbers import Numbers
from .similarity import Similarity


@dataclass(frozen=True)
class Agreement:
    """Of the rows that both datasets have, by shard and row."""

    rows: int  # with a similarity in both
    correlation: float | None  # of the two similarities (Pearson); None where one of them does not vary
    both_top: int  # among the top 30 % of either
    either_top: int


@dataclass(frozen=True)
class Against:
    url: str
    model: str
    numbers: Numbers
    similarity: Similarity | None  # of the other's first model
    agreement: Agreement | None  # None where they have no pair in common


def agreement_of(
    connection: duckdb.DuckDBPyConnection, column: str, mine: Similarity, other: Dataset, theirs: Similarity
) -> Agreement | None:
    """Of the view `pairs` and the other dataset. column: of similarities in `pairs`."""
    register_storage(connection, other.url, other.output.storage_options)
    connection.execute(f"CREATE OR REPLACE VIEW other AS {rows_of(other)}")
    a, b = f"pairs.{identifier(column)}::DOUBLE", f"other.{identifier(f'{other.models[0].prefix}similarity')}::DOUBLE"
    least_a, least_b = (of.threshold_of(TOP) for of in (mine, theirs))
    ((rows, correlation, both, either),) = connection.execute(
        f"SELECT count(*), corr(a, b), count(*) FILTER (a >= {least_a!r} AND b >= {least_b!r}), "
        f"count(*) FILTER (a >= {least_a!r} OR b >= {least_b!r}) FROM (SELECT {a} AS a, {b} AS b FROM pairs "
        "JOIN other ON pairs.shard = other.shard AND pairs.row = other.row) WHERE isfinite(a) AND isfinite(b)"
    ).fetchall()
    if not rows:
        return None
    known = correlation is not None and math.isfinite(correlation)
    return Agreement(rows, correlation if known else None, both, either)
