"""Sample rows for a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa

from ..dataset.sql import identifier
from .similarity import FINE, Similarity

_A_GROUP = 12  # rows
_ALONG = 64  # rows along the similarities
_CHOSEN = ("shard", "row", "figure")


@dataclass(frozen=True)
class Row:
    """A row of a dataset, with the columns that a report shows."""

    key: str
    caption: str | None
    shard: str
    row: int
    image_offset: int | None
    image_size: int | None
    figure: float | None = None  # its similarity, or its label's probability
    label: str | None = None

    @property
    def place(self) -> tuple[str, int]:
        return self.shard, self.row


@dataclass(frozen=True)
class Group:
    title: str
    rows: tuple[Row, ...]


def by_similarity(connection: duckdb.DuckDBPyConnection, column: str, of: Similarity) -> list[Group]:
    """The least similar, those around the median, and the most similar."""
    value = f"{identifier(column)}::DOUBLE"
    middle = next(cut.threshold for cut in of.cuts if cut.fraction == 0.5)
    orders = {
        "Lowest similarity": "figure",
        "Around the median": f"abs(figure - {middle!r})",
        "Highest similarity": "-figure",
    }
    scored = f"SELECT shard, row, {value} AS figure, NULL AS label FROM pairs WHERE isfinite({value})"
    return [_group(connection, title, scored, order) for title, order in orders.items()]


def along(connection: duckdb.DuckDBPyConnection, column: str, of: Similarity) -> tuple[Row, ...]:
    """Rows from the lowest similarity to the highest, close to each other where there are many: whatever a threshold
    is, some lie on either side. One scan, and at most `_ALONG` rows."""
    value = f"{identifier(column)}::DOUBLE"
    found = connection.execute(
        "SELECT bin, count(*), arg_min(shard, h), arg_min(row, h), arg_min(value, h) FROM (SELECT shard, row, "
        f"{value} AS value, floor({value} * {FINE})::INTEGER AS bin, hash(row, shard) AS h FROM pairs "
        f"WHERE isfinite({value})) GROUP BY bin ORDER BY bin"
    ).fetchall()
    bins = spread([count for _, count, *_ in found], _ALONG)
    if not bins:
        return ()
    connection.register("along", pa.Table.from_pylist([dict(zip(_CHOSEN, found[i][2:], strict=True)) for i in bins]))
    chosen = "SELECT shard, row, figure, NULL AS label FROM along"
    return _group(connection, "", chosen, "figure", len(bins)).rows


def spread(counts: Sequence[int], most: int) -> list[int]:
    """The numbers of at most `most` bins, ascending: half of them evenly by rows, half evenly by bins."""
    ends = np.cumsum(counts)
    if len(counts) <= most:
        return list(range(len(counts)))
    by_rows = np.searchsorted(ends, np.linspace(1, ends[-1], most // 2))
    by_bins = np.linspace(0, len(counts) - 1, most - most // 2).round().astype(int)
    return sorted({*by_rows.tolist(), *by_bins.tolist()})


def by_label(connection: duckdb.DuckDBPyConnection) -> list[Group]:
    """Those of the view `labels` (see labels.py) whose label is most and least sure."""
    orders = {"Most confident labels": "-figure", "Least confident labels": "figure"}
    labelled = "SELECT shard, row, probability AS figure, label FROM labels WHERE label IS NOT NULL"
    return [_group(connection, title, labelled, order) for title, order in orders.items()]


def at_random(connection: duckdb.DuckDBPyConnection) -> list[Group]:
    """Any rows, the same each time: for datasets in which nothing can be compared."""
    embedded = "SELECT shard, row, NULL AS figure, NULL AS label FROM pairs WHERE error IS NULL"
    return [_group(connection, "Some rows", embedded, "hash(row, shard)")]


def _group(connection: duckdb.DuckDBPyConnection, title: str, rows: str, order: str, most: int = _A_GROUP) -> Group:
    """rows: a query for shard, row, figure and label. The other columns are read for the chosen few alone."""
    samples = connection.execute(
        "SELECT p.key, p.caption, p.shard, p.row, p.image_offset, p.image_size, chosen.figure, chosen.label "
        f"FROM (SELECT *, {order} AS position FROM ({rows}) ORDER BY position, shard, row LIMIT {most}) chosen "
        "JOIN pairs p USING (shard, row) ORDER BY chosen.position, p.shard, p.row"
    )
    return Group(title, tuple(Row(*row) for row in samples.fetchall()))
