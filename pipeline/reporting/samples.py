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
from ..dataset.sql import literal
from .frame import FINE
from .similarity import Similarity
from .sums import A_GROUP

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
    """The sample rows among the sums (see sums.py). The columns that a report shows are read from the parts."""

    connection: duckdb.DuckDBPyConnection
    dataset: Dataset

    def by_similarity(self, of: Similarity) -> list[Group]:
        """The least similar, some around the median, and the most similar."""
        middle = next(cut.threshold for cut in of.cuts if cut.fraction == 0.5)
        return [
            self._group("Lowest similarity", f"lowest {of.alias}"),
            self._group("Around the median", f"along {of.alias}", f"abs(figure - {middle!r})"),
            self._group("Highest similarity", f"highest {of.alias}"),
        ]

    def along(self, of: Similarity) -> tuple[Row, ...]:
        """Rows from the lowest similarity to the highest, close to each other where there are many: whatever a
        threshold is, some lie on either side. At most `_ALONG` rows."""
        query = (
            "SELECT arg_min({'shard': shard, 'row': row, 'figure': figure}, (position, shard, row)) FROM sums "
            f"WHERE what = {literal(f'along {of.alias}')} AND shard IS NOT NULL GROUP BY number ORDER BY number"
        )
        found = [row for (row,) in self.connection.execute(query).fetchall()]
        bins = self.connection.execute(
            f"SELECT floor(number / {FINE}) AS bin, sum(rows)::BIGINT FROM sums "
            f"WHERE what = {literal(f'bins {of.alias}')} GROUP BY bin ORDER BY bin"
        ).fetchall()
        chosen = [found[number] for number in spread([count for _, count in bins], _ALONG)] if found else []
        rows = [(row["shard"], row["row"], row["figure"], None) for row in chosen]
        return self._rows(sorted(rows, key=lambda row: (row[2], *row[:2])))

    def by_label(self) -> list[Group]:
        """Those whose label is most and least sure."""
        return [
            self._group("Most confident labels", "surest"),
            self._group("Least confident labels", "least sure"),
        ]

    def at_random(self) -> Group:
        """Any rows, the same each time: for datasets in which nothing can be compared."""
        return self._group("Some rows", "any")

    def _group(self, title: str, what: str, position: str = "position") -> Group:
        chosen = self.connection.execute(
            f"SELECT shard, row, figure, name FROM sums WHERE what = {literal(what)} AND shard IS NOT NULL "
            f"ORDER BY {position}, shard, row LIMIT {A_GROUP}"
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
