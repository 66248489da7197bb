"""How similar the pairs of a dataset are: statistics, a histogram, and what each threshold would keep."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import duckdb

from ..dataset.sql import identifier
from .histogram import Histogram

TOP = 0.3  # of all pairs: DataComp's share, by which groups and datasets are compared
FRACTIONS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)

FINE = 1000  # bins a unit of similarity, counted in one scan: bars and curve are made of them
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


def similarity_of(connection: duckdb.DuckDBPyConnection, alias: str, column: str) -> Similarity | None:
    """Of a column of the view `pairs`, exact, in three scans; None where no row has one."""
    value = f"{identifier(column)}::DOUBLE"
    scored = f"(SELECT {value} AS value, floor({value} * {FINE})::INTEGER AS bin FROM pairs WHERE isfinite({value}))"
    ((count, least, greatest, mean, deviation),) = connection.execute(
        f"SELECT count(*), min(value), max(value), avg(value), coalesce(stddev_samp(value), 0) FROM {scored}"
    ).fetchall()
    if not count:
        return None
    counted = connection.execute(f"SELECT bin, count(*) FROM {scored} GROUP BY bin")
    bins: dict[float, int] = dict(counted.fetchall())
    return Similarity(
        alias=alias,
        scored=count,
        least=least,
        greatest=greatest,
        mean=mean,
        deviation=deviation,
        histogram=_bars(bins),
        curve=_curve(bins),
        cuts=_cuts(connection, scored, bins),
    )


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
    return Histogram(tuple(edge / FINE for edge in histogram.edges), histogram.counts)


def _curve(bins: Mapping[float, int]) -> tuple[tuple[float, int], ...]:
    first, end = int(min(bins)), int(max(bins)) + 1
    stride = math.ceil((end - first) / _MOST_POINTS)
    points, left = [], sum(bins.values())
    for edge in range(first, end + stride):
        if (edge - first) % stride == 0:
            points.append((edge / FINE, left))
        left -= bins.get(edge, 0)
    return tuple(points)


def _cuts(connection: duckdb.DuckDBPyConnection, scored: str, bins: Mapping[float, int]) -> tuple[Cut, ...]:
    """DataComp's rule: of n values the one of rank int(n · fraction), from 0 and downwards, is the threshold. Only the
    values in the bins that hold those ranks are looked at one by one."""
    count = sum(bins.values())
    ranks = {fraction: min(int(count * fraction), count - 1) for fraction in FRACTIONS}
    holding, before = {}, 0  # bins that hold a rank, with how many values are above them
    for bin, size in sorted(bins.items(), reverse=True):
        if any(before <= rank < before + size for rank in ranks.values()):
            holding[bin] = before
        before += size
    chosen = ", ".join(map(str, holding))
    values = connection.execute(
        f"SELECT bin, value, count(*) FROM {scored} WHERE bin IN ({chosen}) GROUP BY bin, value ORDER BY value DESC"
    )
    cuts, above = [], dict(holding)
    while batch := values.fetchmany(1 << 12):
        for bin, value, size in batch:
            end = above[bin] + size
            cuts += [Cut(f, value, end) for f, rank in ranks.items() if above[bin] <= rank < end]
            above[bin] = end
    return tuple(cuts)
