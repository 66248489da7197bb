"""A dataset in DuckDB: the view `pairs`, wherever its parts are."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa

from ..errors import UserError
from ..storage.ranges import Ranges
from ..storage.urls import open_storage, scheme_of
from .forgotten import PLACE as PLACES
from .forgotten import REASON, FoundRows
from .labels import Labels
from .narrow import NARROW, PLACE
from .narrow_file import NarrowFile
from .side_table import check_sides
from .subset import Subset

if TYPE_CHECKING:
    from .dataset import Dataset

_PATTERN = re.compile(r"[*?\[]")
_GONE = '"clipmill\'s gone"'  # a column's name that no dataset has
_MEMORY = "1500MB"  # what is larger goes to disk: other things run here, too


@contextmanager
def connect(
    dataset: Dataset, within: Subset | None = None, threads: int | None = None
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection with the view `pairs`: every column of every row, or of the rows of a subset.

    NaN is NULL there, but in embeddings, which are `FLOAT[]`; cast them to `FLOAT[512]` for array functions. Memory is
    bounded; what does not fit is spilled to disk.
    """
    with tempfile.TemporaryDirectory(prefix="clipmill-sql-") as spilled, duckdb.connect() as connection:
        connection.execute(f"SET memory_limit = {literal(os.environ.get('CLIPMILL_SQL_MEMORY', _MEMORY))}")
        connection.execute(f"SET temp_directory = {literal(spilled)}")
        connection.execute("SET enable_progress_bar = false")
        # The optimiser would take Parquet's lowest and highest values for those of all rows. NaN is not among these, so
        # isnan(x) would be false everywhere.
        connection.execute("SET disabled_optimizers = 'statistics_propagation'")
        if threads:
            connection.execute(f"SET threads = {threads}")
        sizes = {dataset.url_of(part): size for part, size in zip(dataset.parts, dataset.sizes, strict=True)}
        sizes |= {_url_of(dataset, file): file.bytes for file in dataset.narrow}
        sides = [side for side in dataset.sides if side.columns]
        sizes |= {side.url_of(part): side.files[part][0] for side in sides for part in dataset.parts}
        register_storage(connection, dataset.url, dataset.output.storage_options, sizes)
        if within is not None:
            register_storage(connection, within.output.url, within.output.storage_options)
        for side in sides:
            register_storage(connection, side.output.url, side.output.storage_options, sizes)
        check_sides(dataset, sides)
        connection.execute(f"CREATE VIEW pairs AS {rows_of(dataset, within)}")
        yield connection


def rows_of(dataset: Dataset, within: Subset | None = None, place: str | None = None) -> str:
    """The view `pairs`, as a query: the dataset's columns, from its files of the narrow table where these have a part,
    else from the part; and a struct for each side table. place: a name for one column more, a row's place in its file
    of the narrow table; every part must be in one."""
    in_table = {part for file in dataset.narrow for part in file.parts}
    in_parts = [part for part in dataset.parts if part not in in_table]
    sources = []
    if whole := [file for file in dataset.narrow if file.is_whole]:
        query = _of_table(dataset, [_url_of(dataset, file) for file in whole], place)
        sources.append(_beside(dataset, query, [part for file in whole for part in file.parts]))
    for file in dataset.narrow:
        if not file.is_whole:
            of_parts = f"{PLACE} >= {file.starts[0]} AND {PLACE} < {file.starts[-1]}"
            query = f"{_of_table(dataset, [_url_of(dataset, file)], place)} WHERE {of_parts}"
            sources.append(_beside(dataset, query, file.parts))
    forgotten = dataset.forgotten.held_in(in_parts)
    whole_parts = [part for part in in_parts if part not in forgotten]
    if whole_parts or not (sources or forgotten):
        query = f"SELECT {_values(dataset.schema)} FROM {files(map(dataset.url_of, whole_parts))}"
        sources.append(_beside(dataset, query, whole_parts))
    if forgotten:
        query = f"SELECT {_values(dataset.schema)} FROM ({_blanked(dataset, forgotten)})"
        sources.append(_beside(dataset, query, list(forgotten)))
    rows = " UNION ALL ".join(sources)
    return rows if within is None else f"SELECT * FROM ({rows}) SEMI JOIN ({_kept(within)}) USING (shard, row)"


def _of_table(dataset: Dataset, urls: Iterable[str], place: str | None) -> str:
    """Whole files of the narrow table."""
    column = "" if place is None else f", {PLACE} AS {identifier(place)}"
    return f"SELECT {_values(dataset.schema, packed=True)}{column} FROM {files(urls, 'file_row_number = true')}"


def _blanked(dataset: Dataset, forgotten: Mapping[str, FoundRows]) -> str:
    """Parts that hold forgotten rows, as they read (see forgotten.py)."""
    blank = {"key": "''", "error": literal(REASON)}
    values = [
        identifier(name)
        if name in PLACES
        else f"CASE WHEN {_GONE} THEN {blank.get(name, 'NULL')} ELSE {identifier(name)} END AS {identifier(name)}"
        for name in dataset.schema.names
    ]
    gone = f"(shard, row) IN {_places(forgotten)}"
    rows = f"SELECT *, {gone} AS {_GONE} FROM {files(map(dataset.url_of, forgotten))}"
    return f"SELECT {', '.join(values)} FROM ({rows})"


def _places(forgotten: Mapping[str, FoundRows]) -> str:
    places = ", ".join(f"({literal(of.shard)}, {row})" for of in forgotten.values() for row in of.rows.tolist())
    return f"(SELECT * FROM (VALUES {places}))"


def _beside(dataset: Dataset, query: str, parts: Sequence[str]) -> str:
    """A query for all rows of these parts in order, with the side tables' columns: rows that have one place are one."""
    structs, joins = "", ""
    for number, side in enumerate(side for side in dataset.sides if side.columns):
        table = f"side{number}"
        fields = ", ".join(f"{literal(name)}: {table}.{identifier(name)}" for name in side.columns)
        values = _values(pa.schema([side.schema.field(name) for name in side.columns]))
        struct, gone = f"{{{fields}}}", side.forgotten.only(parts).parts
        if dataset.forgotten.only(parts).parts:  # of what is forgotten here nothing is known beside it either
            struct = f"CASE WHEN own.error IS NOT DISTINCT FROM {literal(REASON)} THEN NULL ELSE {struct} END"
        if gone:
            struct = f"CASE WHEN (own.shard, own.row) IN {_places(gone)} THEN NULL ELSE {struct} END"
        structs += f", {struct} AS {identifier(side.alias)}"
        joins += f" POSITIONAL JOIN (SELECT {values} FROM {files(map(side.url_of, parts))}) AS {table}"
    return f"SELECT own.*{structs} FROM ({query}) AS own{joins}" if joins else query


def only_named(dataset: Dataset, texts: Iterable[str]) -> Dataset:
    """The same dataset with those columns of its side tables that may be meant by the texts, which are SQL or names:
    SQL would read all of them for one."""
    named = "\n".join(texts).casefold()
    sides = []
    for side in dataset.sides:
        as_a_whole = re.search(rf"\b{side.alias.casefold()}\b(?!\"?\s*\.)", named)
        is_meant = side.alias.casefold() in named
        columns = [name for name in side.schema.names if is_meant and (as_a_whole or name.casefold() in named)]
        sides.append(replace(side, columns=tuple(columns)))
    return replace(dataset, sides=tuple(sides))


def column_of(dataset: Dataset, name: str) -> str:
    """A column in SQL: the dataset's own, or `alias.column` of a side table."""
    side = dataset.side_of(name)
    return identifier(name) if side is None else f"{identifier(side[0].alias)}.{identifier(side[1])}"


def _values(schema: pa.Schema, packed: bool = False) -> str:
    """The columns, NaN being NULL. packed: sha256 is 32 bytes."""
    values = []
    for field in schema:
        value = name = identifier(field.name)
        if pa.types.is_floating(field.type):  # else SQL takes NaN for greater than every number
            value = f"CASE WHEN isnan({name}) THEN NULL ELSE {name} END AS {name}"
        elif field.name == "sha256" and packed:
            value = f"lower(hex({name})) AS {name}"
        values.append(value)
    return ", ".join(values)


def rows_of_labels(labels: Labels, parts: Iterable[str]) -> str:
    """Labels to join with `pairs` by shard and row, as a query: without columns that `pairs` has, too. NaN is NULL."""
    return f"SELECT * EXCLUDE (key, error){_without_nan(labels.floats)} FROM {files(map(labels.url_of, parts))}"


def _without_nan(floats: Iterable[str]) -> str:
    """What follows `*` so that NaN is NULL in these columns. Else SQL takes NaN for greater than every number."""
    columns = [f"CASE WHEN isnan({name}) THEN NULL ELSE {name} END AS {name}" for name in map(identifier, floats)]
    return f" REPLACE ({', '.join(columns)})" if columns else ""


def _kept(subset: Subset) -> str:
    if not subset.parts:
        return "SELECT '' AS shard, 0 AS row WHERE false"
    return f"SELECT shard, row FROM {files([subset.url_of(part) for part in subset.parts])}"


def register_storage(
    connection: duckdb.DuckDBPyConnection, url: str, options: Any, sizes: Mapping[str, int] | None = None
) -> None:
    """Let DuckDB read what is at `url` through fsspec, as everything else here does. sizes: of files by URL, which
    saves a request each."""
    scheme = scheme_of(url)
    if scheme != "file" and not connection.filesystem_is_registered(scheme):
        connection.register_filesystem(Ranges(open_storage(url, options), sizes))


def literal(text: str) -> str:
    """A string in SQL."""
    return "'" + text.replace("'", "''") + "'"


def identifier(name: str) -> str:
    """A column's name in SQL."""
    return '"' + name.replace('"', '""') + '"'


def complaint(error: duckdb.Error, option: str) -> UserError:
    """What DuckDB finds wrong with a user's SQL, in one line. Without the position: theirs is a piece of the query."""
    message = str(error).partition("\nLINE ")[0]
    return UserError(f"{option}: {' '.join(message.split())}")


def check_condition(connection: duckdb.DuckDBPyConnection, text: str, option: str) -> None:
    """UserError for a text that is not one condition by its syntax. It is parsed by itself, so that errors are about
    the user's own text and not about the query around it."""
    try:
        statements = connection.extract_statements(f"SELECT 1 WHERE {text}")
    except duckdb.Error as error:
        raise complaint(error, option) from error
    if len(statements) != 1:
        raise UserError(f"{option}: must be one condition; give several by several options, or join them by AND")


def _url_of(dataset: Dataset, file: NarrowFile) -> str:
    return f"{dataset.url}/{NARROW}/{file.name}"


def files(urls: Iterable[str], option: str = "") -> str:
    """Exactly these Parquet files, for FROM: by itself, DuckDB takes `*`, `?` and `[` in a name for a pattern, and a
    folder called `source=web` for a column."""
    names = ", ".join(literal(_PATTERN.sub(r"[\g<0>]", url)) for url in urls)
    return f"read_parquet([{names}], hive_partitioning = false{option and ', '}{option})"
