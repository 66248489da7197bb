"""A report's figures on columns that somebody names: the dataset's own, or those of tables beside it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from ..dataset.columns import check_column_names
from ..dataset.dataset import Dataset
from ..dataset.narrow import narrowed, reading
from ..dataset.sql import column_of, connect, identifier, only_named
from ..dataset.subset import Subset
from ..errors import UserError
from .charts import nice_step
from .histogram import Histogram
from .similarity import Cut

_FRACTIONS = (0.1, 0.3, 0.5)  # whose thresholds are shown
_BARS = 60  # at most about
_TAIL = 0.002  # of the rows, at either end, get no room of their own
_FINE = 25  # bins a bar: thresholds are looked for in those that hold them
_GREATEST = 1e38  # of numbers: squares of greater ones overflow
_MOST = 16  # values of text that are shown, the most frequent


@dataclass(frozen=True)
class NumberColumn:
    """rows: with a finite number. The rest is None or empty where there are none."""

    name: str
    rows: int
    least: float | None = None
    greatest: float | None = None
    mean: float | None = None
    deviation: float | None = None
    histogram: Histogram | None = None
    cuts: tuple[Cut, ...] = ()


@dataclass(frozen=True)
class ValueCount:
    value: str
    rows: int
    similarity: float | None  # their mean; None where none of them has one


@dataclass(frozen=True)
class TextColumn:
    """rows: with a value. most: the most frequent of `count` values."""

    name: str
    rows: int
    count: int
    most: tuple[ValueCount, ...]


ReportedColumn = NumberColumn | TextColumn


def check_reported(dataset: Dataset, names: Sequence[str]) -> None:
    """UserError for columns that are not there, or hold neither numbers nor text."""
    check_column_names(names, dataset.types)
    for name in names:
        if not (_is_number(kind := dataset.types[name]) or _is_text(kind)):
            raise UserError(f"--column {name}: the column holds {kind}; name one that holds numbers or text")


def reported_columns(
    dataset: Dataset, within: Subset | None, names: Sequence[str], alias: str | None
) -> tuple[ReportedColumn, ...]:
    """Of the rows of a dataset, or of a subset of it. alias: of the model whose similarity is told of text."""
    similarity = f"{dataset.model(alias).prefix}similarity"

    def read(table: Dataset) -> tuple[ReportedColumn, ...]:
        with connect(table, within) as connection:
            return tuple(_reported(connection, table, name, similarity) for name in dict.fromkeys(names))

    return reading(narrowed(only_named(dataset, names)), read) if names else ()


def _reported(connection: duckdb.DuckDBPyConnection, dataset: Dataset, name: str, similarity: str) -> ReportedColumn:
    column, kind = column_of(dataset, name), dataset.types[name]
    if _is_number(kind):
        return _numbers(connection, name, f"{column}::DOUBLE", pa.types.is_integer(kind))
    return _texts(connection, name, f"{column}::VARCHAR", f"{identifier(similarity)}::DOUBLE")


def _numbers(connection: duckdb.DuckDBPyConnection, name: str, value: str, is_whole: bool) -> NumberColumn:
    """Exact, in four scans; about where the bars begin and end is an estimate."""
    rows = f"(SELECT {value} AS value FROM pairs WHERE isfinite({value}) AND abs({value}) < {_GREATEST!r})"
    ((count, least, greatest, mean, deviation, ends),) = connection.execute(
        "SELECT count(*), min(value), max(value), avg(value), coalesce(stddev_samp(value), 0), "
        f"approx_quantile(value, [{_TAIL}, {1 - _TAIL}]) FROM {rows}"
    ).fetchall()
    if not count:
        return NumberColumn(name, 0)
    low, high = ends
    width = nice_step(max((high - low) / _BARS, abs(high) * 1e-9, 1e-30))
    width = max(width, 1.0) if is_whole else width
    first, last, fine = math.floor(low / width), math.floor(high / width), width / _FINE
    bin = f"least(greatest(floor(value / {fine!r}), {first * _FINE}), {(last + 1) * _FINE - 1})::BIGINT"
    binned = f"(SELECT value, {bin} AS bin FROM {rows})"
    bins = dict(connection.execute(f"SELECT bin, count(*) FROM {binned} GROUP BY bin").fetchall())
    edges = range(first * _FINE, (last + 1) * _FINE + 1, _FINE)
    histogram = Histogram.of({bin + 0.5: rows for bin, rows in bins.items()}, edges).trimmed()
    histogram = Histogram(tuple(edge // _FINE * width for edge in histogram.edges), histogram.counts)
    return NumberColumn(name, count, least, greatest, mean, deviation, histogram, _cuts(connection, binned, bins))


def _cuts(connection: duckdb.DuckDBPyConnection, binned: str, bins: Mapping[int, int]) -> tuple[Cut, ...]:
    """As `filter --top-fraction` has them. Only values in the bins that hold them are looked at one by one."""
    count, before = sum(bins.values()), 0
    ranks = {fraction: min(int(count * fraction), count - 1) for fraction in _FRACTIONS}
    above = {}  # by bin that holds a threshold: how many values are in higher ones
    for bin, size in sorted(bins.items(), reverse=True):
        if any(before <= rank < before + size for rank in ranks.values()):
            above[bin] = before
        before += size
    values = connection.execute(
        f"SELECT bin, value, count(*) FROM {binned} WHERE bin IN ({', '.join(map(str, above))}) "
        "GROUP BY bin, value ORDER BY value DESC"
    )
    cuts = []
    while batch := values.fetchmany(1 << 12):
        for bin, value, size in batch:
            end = above[bin] + size
            cuts += [Cut(fraction, value, end) for fraction, rank in ranks.items() if above[bin] <= rank < end]
            above[bin] = end
    return tuple(cuts)


def _texts(connection: duckdb.DuckDBPyConnection, name: str, value: str, similarity: str) -> TextColumn:
    found = connection.execute(
        f"SELECT {value} AS value, count(*) AS rows, avg(CASE WHEN isfinite({similarity}) THEN {similarity} END), "
        f"count(*) OVER (), sum(count(*)) OVER () FROM pairs WHERE {value} IS NOT NULL GROUP BY value "
        f"ORDER BY rows DESC, value LIMIT {_MOST}"
    ).fetchall()
    if not found:
        return TextColumn(name, 0, 0, ())
    return TextColumn(name, int(found[0][4]), found[0][3], tuple(ValueCount(*row[:3]) for row in found))


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


def _is_text(kind: pa.DataType) -> bool:
    """Or what stands for a few words."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_boolean(kind)
