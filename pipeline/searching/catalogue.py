"""A dataset's rows without their embeddings in a DuckDB database of its own, which answers strangers' questions: SQL
that comes over the network can read these tables, and nothing else."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from ..dataset.labels import Labels
from ..dataset.plan import planned_shards
from ..dataset.sql import check_condition, complaint, connect, files, identifier, literal, register_storage
from ..errors import UserError
from .numbered_rows import Mask, NumberedRows

_PATIENCE = 20.0  # seconds that a question may take
_MEMORY = "1500MB"
_OF_LABELS = ("label", "label_id", "probability", "margin")
_BINS = 60  # of a histogram


@dataclass(frozen=True)
class Condition:
    """Which rows count: those that meet SQL, and that have a label. None: all."""

    where: str | None = None
    label: str | None = None

    @property
    def sql(self) -> str:
        """What follows WHERE; the label is the parameter $label."""
        parts = [f"(\n{self.where}\n)"] if self.where else []  # the line ends before what may be a comment does
        return " AND ".join([*parts, *(["labels.label = $label"] if self.label is not None else [])]) or "true"

    def also(self, where: str) -> Condition:
        return Condition(f"({self.where}\n) AND {where}" if self.where else where, self.label)

    @property
    def parameters(self) -> dict[str, str]:
        return {} if self.label is None else {"label": self.label}

    def options(self) -> list[str]:
        """Of `clipmill filter`, for the same rows."""
        label = [f"labels.label = {literal(self.label)}"] if self.label is not None else []
        return [word for sql in (*([self.where] if self.where else []), *label) for word in ("--where", sql)]


@dataclass(frozen=True)
class Histogram:
    """counts: of equal bins from `lowest` to `highest`. missing: rows without a value."""

    lowest: float
    highest: float
    counts: list[int]
    missing: int


@dataclass(frozen=True)
class Sides:
    """What falls on either side of a threshold: how many rows, and those nearest to it, nearest first."""

    below: int
    above: int  # at the threshold, too
    missing: int  # rows without a value
    just_below: list[dict[str, Any]]
    just_above: list[dict[str, Any]]


class Catalogue:
    """Rows are named by their place in the dataset, 0 for the first: the column `_place`. Thread-safe. What a question
    in SQL does wrong, or takes too long for, is a UserError."""

    def __init__(self, database: Path, rows: int, scratch: Path) -> None:
        self.rows = rows
        self._connection = duckdb.connect(str(database), read_only=True)
        for setting in (
            f"memory_limit = {literal(_MEMORY)}",
            f"temp_directory = {literal(str(scratch))}",
            "python_enable_replacements = false",  # or SQL could read this program's variables
            "enable_external_access = false",
            "lock_configuration = true",
        ):
            self._connection.execute(f"SET {setting}")
        tables = {name for (name,) in self._rows_of("SELECT table_name FROM duckdb_tables()")}
        self.has_labels = "labels" in tables
        self._from = "FROM pairs LEFT JOIN labels USING (_place)" if self.has_labels else "FROM pairs"
        self.mask = lru_cache(16)(self._mask)  # pages of one search ask for the same

    def close(self) -> None:
        self._connection.close()

    def read(self, places: Sequence[int]) -> list[dict[str, Any]]:
        """Whole rows in the order given; what labels say of them as `labels.label` and so on."""
        of_labels = "".join(f", labels.{name} AS {identifier(f'labels.{name}')}" for name in _OF_LABELS)
        sql = f"SELECT pairs.*{of_labels if self.has_labels else ''} {self._from} "
        with self._answer(f"{sql} WHERE pairs._place IN (SELECT unnest($places))", {"places": list(places)}) as answer:
            names = [name for name, *_ in answer.description]
            found = {row[0]: dict(zip(names, row, strict=True)) for row in answer.fetchall()}
        return [found[place] for place in places if place in found]

    def of_key(self, key: str) -> int | None:
        """The first row of that key: keys need not be unique."""
        ((place,),) = self._rows_of("SELECT min(_place) FROM pairs WHERE key = $key", {"key": key})
        return None if place is None else int(place)

    def count(self, condition: Condition) -> int:
        return int(self._select("count(*)", condition)[0][0])

    def page(self, condition: Condition, start: int, rows: int) -> list[dict[str, Any]]:
        """Some of the rows, in the dataset's order."""
        return self._first("pairs._place", condition, rows, start)

    def labels(self) -> list[tuple[str, int]]:
        """Each label and how many rows have it, the most frequent first; a thousand at most."""
        return self._rows_of(
            "SELECT label, count(*) AS rows FROM labels WHERE label IS NOT NULL GROUP BY label "
            "ORDER BY rows DESC, label LIMIT 1000"
        )

    def histogram(self, column: str, condition: Condition) -> Histogram:
        """What is infinite or no number is missing, as in `sides`."""
        number = f"pairs.{identifier(column)}::DOUBLE"
        value = f"(CASE WHEN isfinite({number}) THEN {number} END)"
        figures = f"min({value}), max({value}), count({value}), count(*)"
        lowest, highest, there, rows = self._select(figures, condition)[0]
        if not there:
            return Histogram(0.0, 0.0, [0] * _BINS, rows)
        width = (highest - lowest) / _BINS or 1.0
        place = f"least(floor(({value} - {lowest!r}) / {width!r})::INT, {_BINS - 1})"
        counts = dict(self._select(f"{place} AS _bin, count({value})", condition, "GROUP BY _bin"))
        return Histogram(lowest, highest, [counts.get(each, 0) for each in range(_BINS)], rows - there)

    def sides(self, column: str, at: str, condition: Condition, samples: int) -> Sides:
        """at: the threshold, a number as SQL writes it: `column >= at` then means the same to `clipmill filter`."""
        value = f"pairs.{identifier(column)}"
        known = f"isfinite({value}::DOUBLE)"  # to SQL, NaN is above every number
        is_below, is_above = f"({value} < {at} AND {known})", f"({value} >= {at} AND {known})"
        figures = f"count(*) FILTER {is_below}, count(*) FILTER {is_above}, count(*)"
        below, above, rows = self._select(figures, condition)[0]
        just_below = self._first(f"{value} DESC, pairs._place", condition.also(is_below), samples)
        just_above = self._first(f"{value}, pairs._place", condition.also(is_above), samples)
        return Sides(below, above, rows - below - above, just_below, just_above)

    def _first(self, order: str, condition: Condition, rows: int, start: int = 0) -> list[dict[str, Any]]:
        page = f"ORDER BY {order} LIMIT {int(rows)} OFFSET {int(start)}"
        return self.read([place for (place,) in self._select("pairs._place", condition, page)])

    def _mask(self, condition: Condition) -> Mask:
        mask = np.zeros(self.rows, dtype=np.bool_)
        with self._answer(*self._sql("pairs._place", condition)) as answer:
            mask[answer.fetchnumpy()["_place"]] = True
        return mask

    def _select(self, what: str, condition: Condition, rest: str = "") -> list[tuple[Any, ...]]:
        return self._rows_of(*self._sql(what, condition, rest))

    def _sql(self, what: str, condition: Condition, rest: str = "") -> tuple[str, dict[str, Any]]:
        if condition.where:
            with self._connection.cursor() as cursor:
                check_condition(cursor, condition.where, "filter")
        return f"SELECT {what} {self._from} WHERE {condition.sql} {rest}", condition.parameters

    def _rows_of(self, sql: str, parameters: dict[str, Any] | None = None) -> list[tuple[Any, ...]]:
        with self._answer(sql, parameters or {}) as answer:
            return answer.fetchall()

    @contextmanager
    def _answer(self, sql: str, parameters: dict[str, Any]) -> Iterator[duckdb.DuckDBPyConnection]:
        with self._connection.cursor() as cursor:
            stop = threading.Timer(_PATIENCE, cursor.interrupt)
            stop.start()
            try:
                statements = cursor.extract_statements(sql)
                if [each.type for each in statements] != [duckdb.StatementType.SELECT]:
                    raise UserError("filter: must be one condition in SQL")
                yield cursor.execute(statements[0], parameters)
            except duckdb.InterruptException as error:
                raise UserError(f"filter: takes longer than {_PATIENCE:g} s") from error
            except duckdb.Error as error:
                raise complaint(error, "filter") from error
            finally:
                stop.cancel()


@contextmanager
def catalogue(numbered: NumberedRows, columns: Sequence[str], labels: Labels | None = None) -> Iterator[Catalogue]:
    """Copies these columns to a temporary file, which goes with the context."""
    with tempfile.TemporaryDirectory(prefix="clipmill-rows-") as folder:
        database = Path(folder) / "rows.duckdb"
        _write(database, numbered, columns, labels)
        made = Catalogue(database, len(numbered), Path(folder) / "spilled")
        try:
            yield made
        finally:
            made.close()


def _write(database: Path, numbered: NumberedRows, columns: Sequence[str], labels: Labels | None) -> None:
    dataset = numbered.dataset
    shards = {shard.part_name: shard.url for shard in planned_shards(dataset.output)}
    starts = pa.table({"shard": [shards[part] for part in dataset.parts], "start": numbered.starts[:-1]})
    with connect(dataset) as connection:
        connection.execute(f"ATTACH {literal(str(database))} AS catalogue")
        connection.register("starts", starts)
        names = ", ".join(map(identifier, columns))
        connection.execute(
            f"CREATE TABLE catalogue.pairs AS SELECT start + row AS _place, {names} "
            "FROM pairs JOIN starts USING (shard)"
        )
        if labels is not None:
            register_storage(connection, labels.output.url, labels.output.storage_options)
            connection.execute(
                f"CREATE TABLE catalogue.labels AS SELECT start + row AS _place, {', '.join(_OF_LABELS)} "
                f"FROM {files(map(labels.url_of, labels.parts))} JOIN starts USING (shard)"
            )
