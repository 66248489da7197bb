"""The scores of some rows of a dataset: how many have which digits, and which parts have some between two of them."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..dataset.narrow import NARROW
from ..dataset.narrow_file import NarrowReader
from ..dataset.sortable import DIGITS, Counts, Doubles, Keys, digit_counts, has_prefix, keys_of, value_of, with_prefix
from ..dataset.sql import column_of, identifier
from .rows import Rows
from .runs import Run

PLACE = "clipmill's place"  # a column's name that no condition uses

Places = npt.NDArray[np.int64]  # of rows in a file of the narrow table, ascending


@dataclass(frozen=True)
class Scores:
    """A column's numbers, as keys in the same order. Rows without a value are left out."""

    rows: Rows
    column: str
    prefix: int
    digit: int

    def keys(self, run: Run) -> SomeKeys:
        return self.rows.of(run, self._keys)

    def _keys(self, rows: Rows, run: Run) -> SomeKeys:
        bounds, numbers = self._bounds(), stored_numbers(rows, run, self.column)
        if numbers is None:
            value = f"{column_of(rows.dataset, self.column)}::DOUBLE"
            within = "" if bounds is None else f" AND {value} BETWEEN {literal(bounds[0])} AND {literal(bounds[1])}"
            query = f"SELECT {value} AS score FROM {rows.source(run.parts)} WHERE {value} IS NOT NULL{within}"
            with rows.connect(run.parts) as connection:
                numbers = np.asarray(connection.execute(query).fetchnumpy()["score"])
            return SomeKeys(with_prefix(keys_of(numbers), self.prefix, self.digit))
        if bounds is None:
            places = np.flatnonzero(~np.isnan(numbers))
        else:
            places = np.flatnonzero((numbers >= bounds[0]) & (numbers <= bounds[1]))
        keys = keys_of(numbers[places])
        chosen = has_prefix(keys, self.prefix, self.digit)
        return SomeKeys(keys[chosen], places[chosen] + run.narrow[0].starts[0])

    def _bounds(self) -> tuple[float, float] | None:
        """Numbers whose keys begin with the prefix lie between these. None where a bound is no number."""
        if not self.digit:
            return None
        bits = DIGITS[self.digit - 1]
        lowest, highest = value_of(self.prefix << bits), value_of((self.prefix + 1 << bits) - 1)
        return None if math.isnan(lowest) or math.isnan(highest) else (lowest, highest)


@dataclass(frozen=True)
class SomeKeys:
    """Those of a run that are wanted. places: int64 [n], ascending, of their rows in the file of the narrow table; None
    where these are not known."""

    keys: Keys
    places: Places | None = None


class CountScores(Scores):
    def __call__(self, run: Run) -> Counts:
        return digit_counts(self.keys(run).keys, self.digit)


class CollectScores(Scores):
    def __call__(self, run: Run) -> SomeKeys:
        return self.keys(run)


@dataclass(frozen=True)
class PartsBetween:
    """Which parts of a run have scores from `low` to below `high`, and how many."""

    rows: Rows
    column: str
    low: float
    high: float

    def __call__(self, run: Run) -> dict[str, int]:
        return self.rows.of(run, self._parts)

    def _parts(self, rows: Rows, run: Run) -> dict[str, int]:
        if run.narrow:
            return by_part(run, places_between(rows, run, self.column, self.low, self.high))
        where = f"WHERE {is_between(column_of(rows.dataset, self.column), self.low, self.high)}"
        with rows.connect(run.parts) as connection:
            counts = {}
            for part in run.parts:
                ((count,),) = connection.execute(f"SELECT count(*) FROM {rows.source((part,))} {where}").fetchall()
                counts[part] = count
        return {part: count for part, count in counts.items() if count}


def places_between(rows: Rows, run: Run, column: str, low: float, high: float) -> Places:
    """Of the rows of a run of the narrow table that have scores from `low` to below `high`."""
    numbers = stored_numbers(rows, run, column)
    if numbers is not None:
        return np.flatnonzero((numbers >= low) & (numbers < high)) + run.narrow[0].starts[0]
    where = f"WHERE {is_between(column_of(rows.dataset, column), low, high)} ORDER BY place"
    with rows.connect(run.parts) as connection:
        query = f"SELECT {identifier(PLACE)} AS place FROM {rows.source(run.parts, PLACE)} {where}"
        return np.asarray(connection.execute(query).fetchnumpy()["place"])


def by_part(run: Run, places: npt.NDArray[np.int64]) -> dict[str, int]:
    """How many of these places of a file of the narrow table are in each part; parts with none are left out."""
    numbers = np.searchsorted(run.narrow[0].starts, places, side="right") - 1  # empty parts have no place
    return dict(Counter(run.parts[number] for number in numbers.tolist()))


def stored_numbers(rows: Rows, run: Run, column: str) -> Doubles | None:
    """A column of a run as the narrow table has it, NaN where there is no number. None where it takes SQL to tell: for
    rows within a subset, labels, and columns of something else than numbers. SQL takes ten times as long, since each
    run needs a connection."""
    schema = rows.dataset.schema
    if not run.narrow or rows.within is not None or rows.labels is not None or column not in schema.names:
        return None
    kind = schema.field(column).type
    if not pa.types.is_floating(kind) and not pa.types.is_integer(kind):
        return None
    (file,) = run.narrow
    with rows.dataset.output.open(f"{NARROW}/{file.name}", file.bytes) as opened:
        values = NarrowReader(opened, [column], file.footer).rows(file.starts[0], file.starts[-1])[column]
    numbers: Doubles = values.cast(pa.float64(), safe=False).to_numpy()
    return numbers


def is_between(value: str, low: float, high: float) -> str:
    """A condition in SQL: from `low` to below `high`. value: in SQL, too."""
    return f"{value}::DOUBLE >= {literal(low)} AND {value}::DOUBLE < {literal(high)}"


def literal(number: float) -> str:
    """A number in SQL."""
    return f"'{number!r}'::DOUBLE"
