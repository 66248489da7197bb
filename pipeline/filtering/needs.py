"""What conditions look at, read from DuckDB's own parse tree."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import duckdb

_ODD = ("SHOW_REF", "PIVOT")  # tables made of whatever columns there are


@dataclass(frozen=True)
class Needs:
    """embeddings: some condition may see a column of embeddings. rows: some may see other rows than its own, or other
    files."""

    embeddings: bool
    rows: bool


def needs_of(conditions: Iterable[str], columns: Collection[str]) -> Needs:
    """columns: those that conditions may name and that are no embeddings. What cannot be parsed needs everything."""
    known, needs = {name.casefold() for name in columns}, Needs(False, False)
    with duckdb.connect(config={"enable_external_access": "false"}) as connection:
        for text in conditions:
            nodes = list(_nodes(_parsed(connection, text)))
            embeddings = not nodes or any(_sees_others(node, known) for node in nodes)
            rows = not nodes or any(node.get("class") == "SUBQUERY" for node in nodes)
            needs = Needs(needs.embeddings or embeddings, needs.rows or rows)
    return needs


def _parsed(connection: duckdb.DuckDBPyConnection, text: str) -> Any:
    """None where it cannot be parsed."""
    try:
        query = {"query": f"SELECT 1 WHERE ({text}\n)"}
        ((serialised,),) = connection.execute("SELECT json_serialize_sql($query)", query).fetchall()
        tree = json.loads(serialised)
        return tree["statements"][0]["node"]["where_clause"] if not tree["error"] else None
    except (duckdb.Error, RecursionError, KeyError, IndexError):
        return None


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    waiting = [tree]
    while waiting:
        entry = waiting.pop()
        if isinstance(entry, list):
            waiting += entry
        elif isinstance(entry, dict):
            yield entry
            waiting += entry.values()


def _sees_others(node: dict[str, Any], known: Collection[str]) -> bool:
    """Whether a node may stand for a column that is not known: its name, `*`, a row as a whole, a join by all names."""
    if node.get("class") == "STAR" or node.get("type") in _ODD or node.get("ref_type") == "NATURAL":
        return True
    names = [*node.get("column_names", ())[-1:], *node.get("using_columns", ())]
    return any(name.casefold() not in known for name in names)
