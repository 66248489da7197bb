"""Conditions that somebody else wrote: what SQL they may hold.

DuckDB's own parse tree is read, and what is in it must be on the lists below: comparisons, arithmetic, and functions of
one row whose result is at most as long as what they are given. Subqueries, tables, settings, window functions, lambdas
and functions that make long values of short ones (`repeat`, `range`, `replace`) are not.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from typing import Any

import duckdb

from ..errors import UserError, one_line

MAX_LENGTH = 10_000  # characters of a condition

_EXPRESSIONS = frozenset(
    {
        "BETWEEN", "CASE", "CAST", "COLLATE", "COLUMN_REF", "COMPARISON", "CONJUNCTION", "CONSTANT", "FUNCTION",
        "OPERATOR", "TYPE",
    }
)  # fmt: skip

_FUNCTIONS = frozenset(
    # operators
    "+ - * / // % ** ^ & | ~ << >> || ~~ !~~ ~~* !~~* ~~~ like_escape not_like_escape ilike_escape not_ilike_escape"
    # numbers
    " abs ceil ceiling cbrt exp even floor greatest isfinite isinf isnan least ln log log10 log2 mod nullif pow power"
    " round sign sqrt trunc xor"
    # text
    " ascii char_length character_length contains ends_with instr lcase left length len lower ltrim nfc_normalize"
    " ord position prefix regexp_extract regexp_full_match regexp_matches reverse right rtrim split_part starts_with"
    " string_split strlen strpos strip_accents substr substring suffix trim ucase unicode upper"
    # lists and structs, embeddings among them
    " array_contains array_cosine_similarity array_distance array_extract array_has array_inner_product array_length"
    " array_position cardinality list_avg list_contains list_cosine_similarity list_distance list_element list_extract"
    " list_has list_has_all list_has_any list_inner_product list_max list_min list_position list_sum struct_extract"
    # JSON in text
    " -> ->> json_array_length json_exists json_extract json_extract_path json_extract_path_text json_extract_string"
    " json_type json_valid json_value"
    # dates
    " date_diff date_part date_trunc datediff datepart datesub day dayofweek dayofyear epoch hour minute month"
    " second strptime to_days to_hours to_minutes to_months to_seconds to_timestamp to_weeks to_years try_strptime week"
    " weekday year"
    # whole rows
    " hash md5 sha256".split()
)

Node = dict[str, Any]


def check_condition_of_others(text: str, option: str, functions: Collection[str] = ()) -> None:
    """UserError for a condition that holds anything but what the lists above allow. functions: others that it may call,
    such as those that `filter` adds. option: what errors call the condition."""
    if len(text) > MAX_LENGTH:
        raise UserError(f"{option}: a condition may have {MAX_LENGTH:,} characters, and this one has {len(text):,}")
    for node in _nodes(_parsed(text, option)):
        if refused := _refused(node, functions):
            raise UserError(
                f"{option}: {refused} is not allowed in a condition that comes from elsewhere; use columns, numbers, "
                "text, comparisons and functions of one row (docs/filter.md lists them)"
            )


def _parsed(text: str, option: str) -> Node:
    """The condition's part of DuckDB's parse tree. Nothing of the text is run."""
    with duckdb.connect(config={"enable_external_access": "false"}) as connection:
        try:
            rows = connection.execute("SELECT json_serialize_sql($query)", {"query": f"SELECT 1 WHERE ({text}\n)"})
        except duckdb.Error as error:
            raise UserError(f"{option}: {one_line(error)}") from error
        tree: Node = json.loads(rows.fetchall()[0][0])
    if tree["error"]:
        raise UserError(f"{option}: {one_line(tree.get('error_message'))}")
    if len(tree["statements"]) != 1 or not _is_plain(tree["statements"][0]["node"]):
        raise UserError(f"{option}: must be one condition")
    where: Node = tree["statements"][0]["node"]["where_clause"]
    return where


def _is_plain(query: Node) -> bool:
    """Whether the text did not end the condition and go on with something else."""
    clauses = ("group_expressions", "group_sets", "having", "qualify", "sample", "modifiers")
    is_empty_from = query.get("from_table", {}).get("type") == "EMPTY"
    return query["type"] == "SELECT_NODE" and is_empty_from and not any(query.get(clause) for clause in clauses)


def _nodes(value: Any) -> Iterator[Node]:
    waiting = [value]
    while waiting:
        entry = waiting.pop()
        if isinstance(entry, dict):
            if "class" in entry:
                yield entry
            waiting += entry.values()
        elif isinstance(entry, list):
            waiting += entry


def _refused(node: Node, functions: Collection[str]) -> str | None:
    """What is not allowed, in words; None where the node is."""
    kind = node["class"]
    if kind not in _EXPRESSIONS:
        return {"SUBQUERY": "a subquery", "WINDOW": "a window function", "STAR": "*"}.get(kind, kind.lower())
    if kind != "FUNCTION":
        return None
    name = str(node["function_name"]).lower()
    if node.get("schema") or node.get("catalog"):
        return f"{node['schema'] or node['catalog']}.{name}"
    return None if name in _FUNCTIONS or name in functions else f"the function {name}"
