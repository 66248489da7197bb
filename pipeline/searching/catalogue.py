"""A dataset's rows without their embeddings in a DuckDB database of its own, for a page that shows and filters them.

What people type as a filter is run elsewhere (filters.py): the SQL in this file is ours alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from filelock import FileLock

from ..dataset.dataset import Dataset
from ..dataset.forgotten import PLACE
from ..dataset.labels import FLOATS, Labels
from ..dataset.side_table import identity_of
from ..dataset.sql import connect, identifier, literal, register_storage, rows_of_labels
from ..errors import OutputError, one_line
from .dense import digest, home
from .distribution import Histogram, Sides, Values, histogram, sides
from .filters import Filters
from .numbered_rows import Mask, NumberedRows
from .scan import Numbers

_MEMORY = "1500MB"
_OF_LABELS = ("label", "label_id", *FLOATS)
_OF_PLACE = ("key", *PLACE)  # which side tables have, too
_KEPT = 16  # masks of the last labels


@dataclass(frozen=True)
class Condition:
    """Which rows are meant: those that meet SQL, that have a label, and that reach a similarity. None: all."""

    where: str | None = None
    label: str | None = None
    at_least: float | None = None

    def options(self) -> list[str]:
        """Of `clipmill filter`, for the same SQL and label."""
        label = [f"labels.label = {literal(self.label)}"] if self.label is not None else []
        return [word for sql in (*([self.where] if self.where else []), *label) for word in ("--where", sql)]


class Catalogue:
    """Rows are named by their position in the dataset, 0 for the first: the column `_place`. Thread-safe."""

    def __init__(self, database: Path, rows: int, score: str, filters: Filters) -> None:
        """score: the column of similarities."""
        self.rows, self.filters = rows, filters
        self._connection = duckdb.connect(str(database), read_only=True, config={"memory_limit": _MEMORY})
        tables = {name for (name,) in self._select("SELECT table_name FROM duckdb_tables()")}
        self.has_labels = "labels" in tables
        self._from = "FROM pairs LEFT JOIN labels USING (_place)" if self.has_labels else "FROM pairs"
        self.columns = self._columns()  # by name, in SQL; `_place` is the first
        self.similarities = self._values(score)  # float32 [rows]; NaN where a row has none
        self._labelled = lru_cache(_KEPT)(self._with_label)

    def close(self) -> None:
        self._connection.close()

    def read(self, positions: Sequence[int]) -> list[dict[str, Any]]:
        """Whole rows in the order given, their labels as `labels.label` and so on, and columns of side tables as
        `alias.column`. Positions without a row are left out."""
        of_labels = {f"labels.{name}": f"labels.{name}" for name in _OF_LABELS if self.has_labels}
        columns = ", ".join(f"{sql} AS {identifier(name)}" for name, sql in (self.columns | of_labels).items())
        with self._connection.cursor() as cursor:
            answer = cursor.execute(
                f"SELECT {columns} {self._from} WHERE pairs._place IN (SELECT unnest($positions))",
                {"positions": list(positions)},
            )
            names = [name for name, *_ in answer.description]
            rows = {row[0]: dict(zip(names, row, strict=True)) for row in answer.fetchall()}
        return [rows[position] for position in positions if position in rows]

    def table(self, positions: Numbers, columns: Sequence[str] | None = None) -> pa.Table:
        """Rows in the order given, as `read` has them. columns: some of them; None: all but `_place`."""
        names = {name: sql for name, sql in self.columns.items() if name != "_place"}
        if self.has_labels:
            names |= {f"labels.{name}": f"labels.{name}" for name in _OF_LABELS}
        wanted = ", ".join(f"{names[name]} AS {identifier(name)}" for name in columns or names)
        with self._connection.cursor() as cursor:
            cursor.register("chosen", pa.table({"_place": positions, "_order": np.arange(len(positions))}))
            chosen = f"SELECT {wanted} {self._from} JOIN chosen USING (_place) ORDER BY _order"
            return cursor.sql(chosen).to_arrow_table()

    def of_key(self, key: str) -> list[int]:
        """The positions of the rows of that key, ascending: keys need not be unique."""
        rows = self._select("SELECT _place FROM pairs WHERE key = $key ORDER BY _place", {"key": key})
        return [position for (position,) in rows]

    def mask(self, condition: Condition) -> Mask:
        """UserError for a filter that is wrong, takes too long or too much memory; BusyError where too many wait."""
        mask = np.ones(self.rows, dtype=np.bool_)
        if condition.where is not None:
            mask &= self.filters.mask(condition.where)
        if condition.label is not None:
            mask &= self._labelled(condition.label)
        if condition.at_least is not None:
            mask &= self.similarities >= np.float32(condition.at_least)  # NaN is not
        return mask

    def has_any(self, column: str) -> bool:
        """Whether some row has a value in a column of this name."""
        sql = self.columns.get(column)
        return sql is not None and bool(self._select(f"SELECT 1 FROM pairs WHERE {sql} IS NOT NULL LIMIT 1"))

    def count(self, condition: Condition) -> int:
        return int(self.mask(condition).sum())

    def page(self, condition: Condition, start: int, rows: int) -> list[dict[str, Any]]:
        """Some of the rows, in the dataset's order."""
        return self.read(np.flatnonzero(self.mask(condition))[start : start + rows].tolist())

    def labels(self) -> list[tuple[str, int]]:
        """Each label and how many rows have it, the most frequent first; a thousand at most."""
        return self._select(
            "SELECT label, count(*) AS rows FROM labels WHERE label IS NOT NULL GROUP BY label "
            "ORDER BY rows DESC, label LIMIT 1000"
        )

    def histogram(self, condition: Condition) -> Histogram:
        """Of the similarities."""
        return histogram(self.similarities, self.mask(condition))

    def sides(self, at: float, condition: Condition, samples: int) -> Sides:
        """Rows with a similarity below `at`, and from it on, as `clipmill filter --where` would count them."""
        return sides(self.similarities, np.float32(at), self.mask(condition), samples)

    def _columns(self) -> dict[str, str]:
        columns: dict[str, str] = {}
        with self._connection.cursor() as cursor:
            pairs = cursor.sql("FROM pairs")
            for name, kind in zip(pairs.columns, pairs.types, strict=True):
                if kind.id == "struct":  # a side table
                    fields = [field for field, _ in kind.children]
                    columns |= {f"{name}.{of}": f"pairs.{identifier(name)}.{identifier(of)}" for of in fields}
                else:
                    columns[name] = f"pairs.{identifier(name)}"
        return columns

    def _values(self, column: str) -> Values:
        """A column as float32 [rows]; NaN where there is no value."""
        values = np.full(self.rows, np.nan, dtype=np.float32)
        with self._connection.cursor() as cursor:
            known = cursor.sql(
                f"SELECT _place, {identifier(column)}::FLOAT AS value FROM pairs WHERE {identifier(column)} IS NOT NULL"
            ).to_arrow_table()
        values[known["_place"].to_numpy()] = known["value"].to_numpy()
        return values

    def _with_label(self, label: str) -> Mask:
        mask = np.zeros(self.rows, dtype=np.bool_)
        if self.has_labels:
            with self._connection.cursor() as cursor:
                rows = cursor.execute("SELECT _place FROM labels WHERE label = $label", {"label": label}).fetchnumpy()
            mask[rows["_place"]] = True
        return mask

    def _select(self, sql: str, parameters: dict[str, Any] | None = None) -> list[tuple[Any, ...]]:
        with self._connection.cursor() as cursor:
            return cursor.execute(sql, parameters or {}).fetchall()


@contextmanager
def catalogue(
    numbered: NumberedRows, columns: Sequence[str], score: str = "similarity", labels: Labels | None = None
) -> Iterator[Catalogue]:
    """Copies these columns, and those of the dataset's side tables, to a file beside the searchable copies of
    embeddings, where this version of the dataset, of the labels and of the side tables has none yet. score: the column
    of similarities. OutputError where it cannot be written."""
    database = _database(numbered, columns, labels)
    try:
        database.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{database.parent}/rows.lock"):
            if not database.exists():
                _write_whole(database, numbered, columns, labels)
    except (OSError, duckdb.IOException) as error:
        raise OutputError(
            f"{database} cannot be written ({one_line(error)}): set CLIPMILL_CACHE to a folder"
        ) from error
    with Filters(database, len(numbered)) as filters:
        opened = Catalogue(database, len(numbered), score, filters)
        try:
            yield opened
        finally:
            opened.close()


def _database(numbered: NumberedRows, columns: Sequence[str], labels: Labels | None) -> Path:
    """Its name changes with all that its rows depend on."""
    dataset = numbered.dataset
    version = digest(dataset.version + identity_of(dataset.sides), dataset.settings.digest, *columns)
    return home(dataset) / f"rows-{version}-{digest(labels.identity) if labels else 'plain'}.duckdb"


def _write_whole(database: Path, numbered: NumberedRows, columns: Sequence[str], labels: Labels | None) -> None:
    """Under another name until it is complete. Those of other versions go; who has one open keeps it."""
    unfinished = database.with_name("rows.unfinished")  # left by a process that died: we hold the lock
    unfinished.unlink(missing_ok=True)
    _write(unfinished, numbered, columns, labels)
    unfinished.rename(database)
    version = database.name.rpartition("-")[0]
    for other in database.parent.glob("rows-*.duckdb"):
        if not other.name.startswith(version):
            other.unlink(missing_ok=True)


def _write(database: Path, numbered: NumberedRows, columns: Sequence[str], labels: Labels | None) -> None:
    dataset = _readable_sides(numbered.dataset)
    starts = pa.table({"shard": dataset.shards(), "start": numbered.starts[:-1]})
    with connect(dataset) as connection:
        connection.execute(f"ATTACH {literal(str(database))} AS catalogue")
        connection.register("starts", starts)
        names = ", ".join(f"pairs.{identifier(name)}" for name in (*columns, *(side.alias for side in dataset.sides)))
        connection.execute(
            f"CREATE TABLE catalogue.pairs AS SELECT starts.start + pairs.row AS _place, {names} "
            "FROM pairs JOIN starts USING (shard)"
        )
        if labels is not None:
            register_storage(connection, labels.output.url, labels.output.storage_options)
            present = ("label", "label_id", *labels.floats)
            columns_of_labels = ", ".join(n if n in present else f"NULL::FLOAT AS {n}" for n in _OF_LABELS)
            connection.execute(
                f"CREATE TABLE catalogue.labels AS SELECT start + row AS _place, {columns_of_labels} "
                f"FROM ({rows_of_labels(labels, labels.parts)}) JOIN starts USING (shard)"
            )


def _readable_sides(dataset: Dataset) -> Dataset:
    """The same dataset, with what people read of its side tables."""
    sides = []
    for side in dataset.sides:
        own = (field for field in side.schema if not pa.types.is_fixed_size_list(field.type))
        names = [field.name for field in own if field.name not in _OF_PLACE]
        sides += [replace(side, columns=tuple(names))] if names else []
    return replace(dataset, sides=tuple(sides))
