"""Sample rows for a report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import groupby

import duckdb
import numpy as np
import pyarrow as pa

from ..dataset.dataset import Dataset
from ..dataset.sql import identifier
from .similarity import FINE, Similarity

_A_GROUP = 12  # rows
_ALONG = 64  # rows along the similarities
_AT_ONCE = 8  # parts read: against latency
_SHOWN = ("key", "caption", "image_offset", "image_size")  # columns, in the order of a row's

Place = tuple[str, int]  # shard and row


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
    def place(self) -> Place:
        return self.shard, self.row


@dataclass(frozen=True)
class Group:
    title: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Samples:
    """Chooses rows by scans of a few columns of `pairs`, the connection's view of the dataset. The others are read from
    the parts, for the chosen few alone."""

    connection: duckdb.DuckDBPyConnection
    dataset: Dataset

    def by_similarity(self, column: str, of: Similarity) -> list[Group]:
        """The least similar, those around the median, and the most similar."""
        value = f"{identifier(column)}::DOUBLE"
        middle = next(cut.threshold for cut in of.cuts if cut.fraction == 0.5)
        orders = {
            "Lowest similarity": "figure",
            "Around the median": f"abs(figure - {middle!r})",
            "Highest similarity": "-figure",
        }
        scored = f"SELECT shard, row, {value} AS figure, NULL AS label FROM pairs WHERE isfinite({value})"
        return [self._group(title, scored, order) for title, order in orders.items()]

    def along(self, column: str) -> tuple[Row, ...]:
        """Rows from the lowest similarity to the highest, close to each other where there are many: whatever a
        threshold is, some lie on either side. One scan, and at most `_ALONG` rows."""
        value = f"{identifier(column)}::DOUBLE"
        found = self.connection.execute(
            "SELECT count(*), arg_min(shard, h), arg_min(row, h), arg_min(value, h) FROM (SELECT shard, row, "
            f"{value} AS value, floor({value} * {FINE})::INTEGER AS bin, hash(row, shard) AS h FROM pairs "
            f"WHERE isfinite({value})) GROUP BY bin ORDER BY bin"
        ).fetchall()
        chosen = [found[number][1:] for number in spread([count for count, *_ in found], _ALONG)] if found else []
        return self._rows([(*of_row, None) for of_row in sorted(chosen, key=lambda row: (row[2], *row[:2]))])

    def by_label(self) -> list[Group]:
        """Those of the view `labels` (see labels.py) whose label is most and least sure."""
        orders = {"Most confident labels": "-figure", "Least confident labels": "figure"}
        labelled = "SELECT shard, row, probability AS figure, label FROM labels WHERE label IS NOT NULL"
        return [self._group(title, labelled, order) for title, order in orders.items()]

    def at_random(self) -> Group:
        """Any rows, the same each time: for datasets in which nothing can be compared."""
        embedded = "SELECT shard, row, NULL AS figure, NULL AS label FROM pairs WHERE error IS NULL"
        return self._group("Some rows", embedded, "hash(row, shard)")

    def _group(self, title: str, rows: str, order: str) -> Group:
        """rows: a query for shard, row, figure and label."""
        chosen = self.connection.execute(
            f"SELECT shard, row, figure, label FROM (SELECT *, {order} AS position FROM ({rows}) "
            f"ORDER BY position, shard, row LIMIT {_A_GROUP}) ORDER BY position, shard, row"
        )
        return Group(title, self._rows(chosen.fetchall()))

    def _rows(self, chosen: Sequence[tuple[str, int, float | None, str | None]]) -> tuple[Row, ...]:
        """chosen: shard, row, figure and label."""
        there = rows_at(self.dataset, [of_row[:2] for of_row in chosen])
        return tuple(
            replace(there[shard, row][0], figure=figure, label=label)
            for shard, row, figure, label in chosen
            if (shard, row) in there
        )


def rows_at(dataset: Dataset, places: Iterable[Place], more: Sequence[str] = ()) -> dict[Place, tuple[Row, pa.Table]]:
    """The rows at these places, each with a table of one row: the columns `more`. Places in no part of the dataset are
    left out. Reads one row group of a part for each row at the most."""
    parts = dict(zip(dataset.shards(), dataset.parts, strict=True))
    known = sorted({place for place in places if place[0] in parts})
    by_shard = [(shard, [row for _, row in group]) for shard, group in groupby(known, lambda place: place[0])]

    def read(shard: str, rows: list[int]) -> list[tuple[Place, tuple[Row, pa.Table]]]:
        table = dataset.take(parts[shard], rows, [*_SHOWN, *more])
        fields = zip(*(table[name].to_pylist() for name in _SHOWN), strict=True)
        others = table.select(more)
        return [
            ((shard, row), (Row(key, caption, shard, row, offset, size), others.slice(number, 1)))
            for number, (row, (key, caption, offset, size)) in enumerate(zip(rows, fields, strict=True))
        ]

    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="samples") as pool:
        return dict(pair for pairs in pool.map(lambda of: read(*of), by_shard) for pair in pairs)


def spread(counts: Sequence[int], most: int) -> list[int]:
    """The numbers of at most `most` bins, ascending: half of them evenly by rows, half evenly by bins."""
    ends = np.cumsum(counts)
    if len(counts) <= most:
        return list(range(len(counts)))
    by_rows = np.searchsorted(ends, np.linspace(1, ends[-1], most // 2))
    by_bins = np.linspace(0, len(counts) - 1, most - most // 2).round().astype(int)
    return sorted({*by_rows.tolist(), *by_bins.tolist()})
