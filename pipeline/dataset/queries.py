"""What a notebook asks of a dataset: some of its rows, as Arrow, as Polars, or as the answer to a query in SQL."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import pyarrow as pa

from ..errors import UserError
from ..job.readable import table_html

if TYPE_CHECKING:
    import polars

    from .dataset import Dataset

T = TypeVar("T")

_COUNT = re.compile(r"\bcount\s*\(\s*\*\s*\)", re.IGNORECASE)


class Queries:
    """Of a dataset, or of the rows of it that conditions keep. Failed rows are among them: `filter("error IS NULL")`
    leaves them out. NaN is null. Side tables (`Dataset.join`) have their columns as `alias.column`.

    All raise UserError for wrong SQL and for columns that do not exist, InfrastructureError for what cannot be read.
    """

    @abstractmethod
    def _of(self) -> tuple[Dataset, tuple[str, ...]]:
        """The dataset, and the conditions that its rows must meet."""

    def filter(self, *conditions: str) -> Pairs:
        """The rows that meet all of these conditions in SQL, as `clipmill filter --where` takes them: "similarity >
        0.3". Nothing is read before rows are asked for, and nothing is written: other steps take the subsets of
        `clipmill filter`."""
        dataset, before = self._of()
        return Pairs(dataset, (*before, *conditions))

    def to_arrow(self, columns: Sequence[str] | None = None, limit: int | None = None) -> pa.Table:
        """The rows in the dataset's order, all of them in memory.

        columns: read no others; without them, all of the dataset's own but the embeddings. Embeddings have the type
        that they are stored in, fixed_size_list<float16 or float32>[dim]. limit: the most rows; no more are read.
        """
        dataset, conditions = self._of()
        types = dataset.types
        own = [field.name for field in dataset.schema if not pa.types.is_fixed_size_list(field.type)]
        names = list(dict.fromkeys([columns] if isinstance(columns, str) else own if columns is None else columns))
        if unknown := [name for name in names if name not in types]:
            raise UserError(f"to_arrow: no column {unknown[0]}; there are {', '.join(types)}")
        if limit is not None and limit < 0:
            raise UserError(f"to_arrow: the limit must be 0 or more, not {limit}")
        most = "" if limit is None else f" LIMIT {limit}"
        query = f"SELECT {', '.join(_value(dataset, name) for name in names)} FROM pairs{most}"
        return _answer(dataset, conditions, query).cast(pa.schema([(name, types[name]) for name in names]))

    def to_polars(self, columns: Sequence[str] | None = None, limit: int | None = None) -> polars.DataFrame:
        """As `to_arrow`. Needs `clipmill[polars]`."""
        try:
            import polars
        except ImportError as error:
            raise UserError("to_polars needs Polars: pip install 'clipmill[polars]'") from error
        frame = polars.from_arrow(self.to_arrow(columns, limit))
        assert isinstance(frame, polars.DataFrame)  # which it is for a table
        return frame

    def sql(self, query: str) -> pa.Table:
        """The answer to a query in DuckDB's SQL FROM pairs, which are the rows; all of the answer is in memory.

        Embeddings are lists of float32 there; cast them to `FLOAT[512]` for array functions.
        """
        dataset, conditions = self._of()
        return _answer(dataset, conditions, query)

    def _repr_html_(self) -> str:
        dataset, conditions = self._of()
        values = {
            "url": dataset.url,
            "models": [f"{model.prefix}{model.variant} ({model.weights})" for model in dataset.models],
            "parts": len(dataset.parts),
            "bytes": sum(dataset.sizes),
            "columns": {field.name: str(field.type) for field in dataset.schema},
            **{f"{side.alias} ({side.url})": {f.name: str(f.type) for f in side.schema} for side in dataset.sides},
            "filter": conditions,
        }
        return table_html(type(self).__name__, values)


@dataclass(frozen=True)
class Pairs(Queries):
    """The rows of a dataset that meet all of some conditions. Made by `filter`; read when they are asked for."""

    dataset: Dataset
    conditions: tuple[str, ...]

    def _of(self) -> tuple[Dataset, tuple[str, ...]]:
        return self.dataset, self.conditions

    def __repr__(self) -> str:
        return f"{self.dataset!r}.filter({', '.join(map(repr, self.conditions))})"


def _value(dataset: Dataset, name: str) -> str:
    """A column in SQL, under its name. SQL has embeddings as lists of any length."""
    from .sql import column_of, identifier  # with DuckDB

    value, kind = column_of(dataset, name), dataset.types[name]
    if pa.types.is_fixed_size_list(kind):
        value = f"CAST({value} AS FLOAT[{kind.list_size}])"
    return f"{value} AS {identifier(name)}"


def _answer(dataset: Dataset, conditions: Sequence[str], query: str) -> pa.Table:
    """What a query finds in the rows that meet the conditions."""
    from .narrow import reading  # with DuckDB
    from .sql import check_condition, connect

    where = " AND ".join(f"(\n{condition}\n)" for condition in conditions)  # what may end in a comment ends a line

    def read(dataset: Dataset) -> pa.Table:
        with connect(dataset) as connection:
            for condition in conditions:
                check_condition(connection, condition, f"filter({condition!r})")
            rows = _told("filter", lambda: connection.sql(f"SELECT * FROM pairs{where and ' WHERE '}{where}"))
            answer = _told("sql", lambda: rows.query("pairs", query))
            if answer is None:
                raise UserError("sql: must be a query that has an answer, such as SELECT … FROM pairs")
            return _told("sql", answer.to_arrow_table)

    return reading(_with_what_is_named(dataset, "\n".join([query, *conditions])), read)


def _with_what_is_named(dataset: Dataset, text: str) -> Dataset:
    """The dataset with what the SQL may mean: of side tables the columns that it names, and embeddings if it does."""
    from .narrow import narrowed  # with DuckDB
    from .sql import only_named

    text = _COUNT.sub("", text).casefold()
    if "*" in text:
        return dataset
    embeddings = [field.name for field in dataset.schema if pa.types.is_fixed_size_list(field.type)]
    names_one = any(name.casefold() in text for name in embeddings)
    return only_named(dataset if names_one else narrowed(dataset), [text])


def _told(method: str, read: Callable[[], T]) -> T:
    """UserError for what DuckDB finds wrong with SQL."""
    import duckdb

    from .sql import complaint

    try:
        return read()
    except (duckdb.ProgrammingError, duckdb.DataError, duckdb.NotSupportedError) as error:  # others are of reading
        raise complaint(error, method) from error
