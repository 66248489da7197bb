"""A dataset in DuckDB: the view `pairs`, wherever its parts are."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import duckdb
import pyarrow as pa

from ..errors import UserError
from ..storage.urls import open_storage, scheme_of
from .dataset import Dataset
from .subset import Subset

_PATTERN = re.compile(r"[*?\[]")
_MEMORY = "1500MB"  # what is larger goes to disk: other things run here, too


@contextmanager
def connect(
    dataset: Dataset, within: Subset | None = None, threads: int | None = None
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection with the view `pairs`: every column of every row, or of the rows of a subset.

    NaN is NULL. Embeddings are `FLOAT[]`; cast to `FLOAT[512]` for array functions. Memory is bounded; what does not fit is spilled.
    """
    with tempfile.TemporaryDirectory(prefix="clipmill-sql-") as spilled, duckdb.connect() as connection:
        connection.execute(f"SET memory_limit = {literal(os.environ.get('CLIPMILL_SQL_MEMORY', _MEMORY))}")
        connection.execute(f"SET temp_directory = {literal(spilled)}")
        connection.execute("SET enable_progress_bar = false")
        # It takes Parquet's lowest and highest values for those of all rows, but NaN is not among these: isnan(x) would
        # be false everywhere.
        connection.execute("SET disabled_optimizers = 'statistics_propagation'")
        if threads:
            connection.execute(f"SET threads = {threads}")
        register_storage(connection, dataset.url, dataset.output.storage_options)
        if within is not None:
            register_storage(connection, within.output.url, within.output.storage_options)
        connection.execute(f"CREATE VIEW pairs AS {rows_of(dataset, within)}")
        yield connection


def rows_of(dataset: Dataset, within: Subset | None = None) -> str:
    """What that view is, as a query."""
    rows = f"SELECT *{without_nan(dataset.schema)} FROM {files([dataset.url_of(part) for part in dataset.parts])}"
    return rows if within is None else f"{rows} SEMI JOIN ({_kept(within)}) USING (shard, row)"


def without_nan(schema: pa.Schema) -> str:
    """What follows `*` so that NaN is no value, as null is none: SQL takes it for greater than every number."""
    floats = [identifier(field.name) for field in schema if pa.types.is_floating(field.type)]
    replaced = ", ".join(f"CASE WHEN isnan({name}) THEN NULL ELSE {name} END AS {name}" for name in floats)
    return f" REPLACE ({replaced})" if floats else ""


def _kept(subset: Subset) -> str:
    if not subset.parts:
        return "SELECT '' AS shard, 0 AS row WHERE false"
    return f"SELECT shard, row FROM {files([subset.url_of(part) for part in subset.parts])}"


def register_storage(connection: duckdb.DuckDBPyConnection, url: str, options: Any) -> None:
    """Let DuckDB read what is at `url` through fsspec, as everything else here does."""
    scheme = scheme_of(url)
    if scheme != "file" and not connection.filesystem_is_registered(scheme):
        connection.register_filesystem(open_storage(url, options))


def literal(text: str) -> str:
    """A string in SQL."""
    return "'" + text.replace("'", "''") + "'"


def identifier(name: str) -> str:
    """A column's name in SQL."""
    return '"' + name.replace('"', '""') + '"'


def complaint(error: duckdb.Error, option: str) -> UserError:
    """What DuckDB finds wrong with SQL that a user gave, in one line; not where: they gave a piece of it."""
    said = str(error).partition("\nLINE ")[0]
    return UserError(f"{option}: {' '.join(said.split())}")


def check_condition(connection: duckdb.DuckDBPyConnection, text: str, option: str) -> None:
    """UserError for what is no condition by its syntax. By itself, so that what is found wrong is in the user's own
    text and not in the query around it."""
    try:
        statements = connection.extract_statements(f"SELECT 1 WHERE {text}")
    except duckdb.Error as error:
        raise complaint(error, option) from error
    if len(statements) != 1:
        raise UserError(f"{option}: must be one condition")


def files(urls: Iterable[str]) -> str:
    """These very Parquet files, for FROM: by itself, DuckDB takes `*`, `?` and `[` in a name for a pattern, and makes a
    column of a folder called `source=web`."""
    names = ", ".join(literal(_PATTERN.sub(r"[\g<0>]", url)) for url in urls)
    return f"read_parquet([{names}], hive_partitioning = false)"
