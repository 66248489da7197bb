"""How similar the pairs of a dataset are: statistics, a histogram, and what each threshold would keep."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import duckdb
import numpy as np

from ..dataset.sql import literal
from .frame import BINS, COARSE, FINE, FRACTIONS, rank_of
from .histogram import Histogram
from .sums import UNIT

_TAIL = 0.002  # of the pairs, at either end, get no room of their own
_BARS = (1, 2, 5, 10, 20, 50, 100)  # of these bins a bar may have
_MOST_BARS = 80
_MOST_POINTS = 400  # of the curve


@dataclass(frozen=True)
class Cut:
    """Keeping pairs at or above `threshold` keeps `rows`: the top `fraction`, and whatever ties with the last."""

    fraction: float
    threshold: float
    rows: int


@dataclass(frozen=True)
class Similarity:
    """Of one model's pairs of embeddings."""

    alias: str
    scored: int  # rows that have one
    least: float
    greatest: float
    mean: float
    deviation: float
    histogram: Histogram
    curve: tuple[tuple[float, int], ...]  # thresholds, ascending, with the rows at or above each
    cuts: tuple[Cut, ...]  # for FRACTIONS

    def threshold_of(self, fraction: float) -> float:
        """Of one of FRACTIONS."""
        return next(cut.threshold for cut in self.cuts if cut.fraction == fraction)


def similarity_of(connection: duckdb.DuckDBPyConnection, alias: str) -> Similarity | None:
    """Of the sums (see sums.py); None where no row has one. Thresholds are exact."""
    counted = connection.execute(
        f"SELECT number::INTEGER, rows, total, squares FROM sums WHERE what = {literal(f'bins {alias}')}"
    ).fetchall()
    if not counted:
        return None
    fine = {bin: rows for bin, rows, *_ in counted}
    count, total, squares = (sum(int(row[column]) for row in counted) for column in (1, 2, 3))
    bins = Counter[float]()
    for bin, rows in fine.items():
        bins[bin // FINE] += rows
    spread = (count * squares - total * total) / (count * (count - 1)) if count > 1 else 0.0
    return Similarity(
        alias=alias,
        scored=count,
        least=_outermost(connection, f"lowest {alias}"),
        greatest=_outermost(connection, f"highest {alias}"),
        mean=total / (count * UNIT),
        deviation=math.sqrt(spread) / UNIT,
        histogram=_bars(bins),
        curve=_curve(bins),
        cuts=_cuts(connection, alias, count),
    )


def _outermost(connection: duckdb.DuckDBPyConnection, what: str) -> float:
    query = f"SELECT arg_min(figure, position) FROM sums WHERE what = {literal(what)} AND shard IS NOT NULL"
    ((figure,),) = connection.execute(query).fetchall()
    return float(figure)


def _bars(bins: Mapping[float, int]) -> Histogram:
    """From where few are lower to where few are higher: those few count in the outermost bars."""
    few = int(_TAIL * sum(bins.values()))
    first, last = _beyond(sorted(bins.items()), few), _beyond(sorted(bins.items(), reverse=True), few)
    width = next((width for width in _BARS if (last - first) / width < _MOST_BARS), _BARS[-1])
    edges = range(width * (first // width), last + width + 1, width)
    return _scaled(Histogram.of(bins, edges).trimmed())


def _beyond(bins: Sequence[tuple[float, int]], few: int) -> int:
    """The first bin that not only `few` values come before."""
    seen = 0
    for bin, count in bins:
        seen += count
        if seen > few:
            return int(bin)
    raise AssertionError("few is less than all")


def _scaled(histogram: Histogram) -> Histogram:
    return Histogram(tuple(edge / COARSE for edge in histogram.edges), histogram.counts)


def _curve(bins: Mapping[float, int]) -> tuple[tuple[float, int], ...]:
    first, end = int(min(bins)), int(max(bins)) + 1
    stride = math.ceil((end - first) / _MOST_POINTS)
    points, left = [], sum(bins.values())
    for edge in range(first, end + stride):
        if (edge - first) % stride == 0:
            points.append((edge / COARSE, left))
        left -= bins.get(edge, 0)
    return tuple(points)


def _cuts(connection: duckdb.DuckDBPyConnection, alias: str, count: int) -> tuple[Cut, ...]:
    """Of the bins that hold the thresholds all values are known: these were expected there (see frame.py)."""
    values = connection.execute(
        f"""
        WITH bins AS (
            SELECT number::INTEGER AS bin, sum(rows) OVER (ORDER BY number DESC) - rows AS above FROM sums
            WHERE what = {literal(f"bins {alias}")}
        ), of_bins AS (
            SELECT number, rows, floor(number * {BINS})::INTEGER AS bin FROM sums
            WHERE what = {literal(f"values {alias}")}
        )
        SELECT number, rows::BIGINT AS rows,
            (above + sum(rows) OVER (PARTITION BY bin ORDER BY number DESC))::BIGINT AS "end"
        FROM of_bins JOIN bins USING (bin) ORDER BY number DESC
        """
    ).fetchnumpy()
    cuts, ends = [], values["end"]
    for fraction in FRACTIONS:
        rank = rank_of(count, fraction)
        place = int(np.searchsorted(ends, rank, side="right"))
        if place < len(ends) and ends[place] - values["rows"][place] <= rank:
            cuts.append(Cut(fraction, float(values["number"][place]), int(ends[place])))
    return tuple(cuts)
