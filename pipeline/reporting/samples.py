"""Sample rows for a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import duckdb
import numpy as np

from ..dataset.sql import literal
from .frame import FINE
from .shown_rows import Row, ShownRows
from .similarity import Similarity
from .sums import A_GROUP

_ALONG = 64  # rows along the similarities


@dataclass(frozen=True)
class Group:
    title: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Samples:
    """The sample rows among the sums (see sums.py)."""

    connection: duckdb.DuckDBPyConnection
    shown: ShownRows

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
        there = self.shown.at([of_row[:2] for of_row in chosen])
        return tuple(
            replace(there[shard, row], figure=figure, label=label)
            for shard, row, figure, label in chosen
            if (shard, row) in there
        )


def spread(counts: Sequence[int], most: int) -> list[int]:
    """The numbers of at most `most` bins, ascending: half of them evenly by rows, half evenly by bins."""
    ends = np.cumsum(counts)
    if len(counts) <= most:
        return list(range(len(counts)))
    by_rows = np.searchsorted(ends, np.linspace(1, ends[-1], most // 2))
    by_bins = np.linspace(0, len(counts) - 1, most - most // 2).round().astype(int)
    return sorted({*by_rows.tolist(), *by_bins.tolist()})
