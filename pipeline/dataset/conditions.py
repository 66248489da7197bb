"""Conditions that somebody else wrote: which SQL they may hold.

DuckDB's own parse tree is read, and all that is in it must be on the lists below: comparisons, arithmetic, and
functions of one row whose result is about as long as their arguments. Refused are subqueries, tables, settings, window
functions, lambdas, functions that make long values of short ones (`repeat`, `range`, `replace`), and too many of the
others one inside another.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from typing import Any

import duckdb

from ..errors import UserError, one_line

MAX_LENGTH = 10_000  # characters of a condition
_MAX_BRACKETS = 500  # DuckDB's parser takes 40 s for 5,000 that are not closed
_MAX_DEPTH, _TOO_DEEP = 250, "expression depth"  # and what DuckDB says of more
_MAX_NESTED = 6  # functions that make text or lists, one inside another: each may make thrice as much of what it gets
_MAX_DIMENSIONS = 16_384  # of the arrays of all casts together: DuckDB reserves as much for each of 2,048 rows

_EXPRESSIONS = "BETWEEN CASE CAST COLUMN_REF COMPARISON CONJUNCTION CONSTANT FUNCTION OPERATOR TYPE"
_TYPES = """
    array bigint bit blob bool boolean char date decimal double float hugeint int int128 int16 int32 int64 int8 integer
    interval json list numeric real smallint string text time timestamp timestamptz tinyint ubigint uhugeint uinteger
    usmallint utinyint uuid varchar
"""
_MAKERS = """
    || ->> json_extract json_extract_path json_extract_path_text json_extract_string json_value lcase left lower ltrim
    nfc_normalize regexp_extract reverse right rtrim split_part string_split strip_accents substr substring trim ucase
    upper
"""  # of text or lists
_OTHERS = """
    + - * / // % ** ^ & | ~ << >> ^@ @> <@ ~~ !~~ ~~* !~~* ~~~
    like_escape not_like_escape ilike_escape not_ilike_escape

    abs ceil ceiling cbrt even exp floor greatest isfinite isinf isnan least ln log log10 log2 mod nullif pow power
    round sign sqrt trunc xor

    ascii char_length character_length contains ends_with instr len length ord position prefix regexp_full_match
    regexp_matches starts_with strlen strpos suffix unicode

    array_contains array_cosine_similarity array_distance array_extract array_has array_inner_product array_length
    array_position cardinality list_avg list_contains list_cosine_similarity list_distance list_element list_extract
    list_has list_has_all list_has_any list_inner_product list_max list_min list_position list_sum struct_extract

    json_array_length json_exists json_type json_valid

    date_diff date_part date_trunc datediff datepart datesub day dayofweek dayofyear epoch hour minute month second
    strptime to_days to_hours to_minutes to_months to_seconds to_timestamp to_weeks to_years try_strptime week weekday
    year

    hash md5 sha256
"""  # operators; functions of numbers, of text, of lists, of JSON in text, of dates, of any value
_ALLOWED = {
    "expression": frozenset(_EXPRESSIONS.split()),
    "type": frozenset(_TYPES.split()),
    "maker": frozenset(_MAKERS.split()),
    "function": frozenset(_MAKERS.split() + _OTHERS.split()),
}

Node = dict[str, Any]


def check_condition_of_others(text: str, option: str, functions: Collection[str] = ()) -> None:
    """UserError for a condition that holds anything but what the lists above allow. Nothing of it is run.

    functions: others that it may call, such as those that `filter` adds. option: what errors call the condition.
    """
    if len(text) > MAX_LENGTH:
        raise UserError(f"{option}: a condition may have {MAX_LENGTH:,} characters, and this one has {len(text):,}")
    if sum(map(text.count, "([{")) > _MAX_BRACKETS:
        raise UserError(f"{option}: a condition may have {_MAX_BRACKETS} brackets")
    dimensions = 0
    for node, nested in _nodes(_parsed(text, option)):
        if refused := _refused(node, functions):
            raise UserError(
                f"{option}: {refused} is not allowed in a condition that comes from elsewhere; use columns, numbers, "
                "text, comparisons and functions of one row (docs/filter.md lists them)"
            )
        if nested > _MAX_NESTED:
            raise UserError(f"{option}: more than {_MAX_NESTED} casts and functions of text, one inside another")
        dimensions += _dimensions(node)
        if dimensions > _MAX_DIMENSIONS:
            raise UserError(f"{option}: the arrays of its casts have more than {_MAX_DIMENSIONS:,} dimensions together")


def _parsed(text: str, option: str) -> Node:
    """The condition's part of DuckDB's parse tree."""
    with duckdb.connect(config={"enable_external_access": "false"}) as connection:
        connection.execute(f"SET max_expression_depth = {_MAX_DEPTH}")
        query = f"SELECT 1 WHERE ({text}\n)"
        try:
            ((serialised,),) = connection.execute("SELECT json_serialize_sql($query)", {"query": query}).fetchall()
            tree: Node = json.loads(serialised)
        except RecursionError:
            tree = {"error": True, "error_message": _TOO_DEEP}
        except duckdb.Error as error:
            tree = {"error": True, "error_message": str(error)}
    if tree["error"]:
        message = one_line(tree["error_message"])
        raise UserError(f"{option}: {'nested too deep; make it simpler' if _TOO_DEEP in message else message}")
    if len(tree["statements"]) != 1 or not _is_plain(tree["statements"][0]["node"]):
        raise UserError(f"{option}: must be one condition")
    where: Node = tree["statements"][0]["node"]["where_clause"]
    return where


def _is_plain(query: Node) -> bool:
    """Whether the text did not end the condition and go on with something else."""
    clauses = ("group_expressions", "group_sets", "having", "qualify", "sample", "modifiers")
    is_empty_from = query.get("from_table", {}).get("type") == "EMPTY"
    return query["type"] == "SELECT_NODE" and is_empty_from and not any(query.get(clause) for clause in clauses)


def _nodes(value: Any) -> Iterator[tuple[Node, int]]:
    """All expressions, and of how many makers of text or lists each is an argument, itself included."""
    waiting = [(value, 0)]
    while waiting:
        entry, nested = waiting.pop()
        if isinstance(entry, list):
            waiting += ((item, nested) for item in entry)
        elif isinstance(entry, dict):
            if "class" in entry:
                nested += entry["class"] == "CAST" or _name(entry) in _ALLOWED["maker"]
                yield entry, nested
            waiting += ((item, nested) for item in entry.values())


def _refused(node: Node, functions: Collection[str]) -> str | None:
    """What is not allowed, in words; None where the node is."""
    kind = node["class"]
    if kind not in _ALLOWED["expression"]:
        return {"SUBQUERY": "a subquery", "WINDOW": "a window function", "STAR": "*"}.get(kind, kind.lower())
    if node.get("schema") or node.get("catalog"):
        return f"{node['schema'] or node['catalog']}.{_name(node)}"
    if kind == "TYPE" and node["type_name"].lower() not in _ALLOWED["type"]:
        return f"the type {node['type_name']}"
    if kind != "FUNCTION":
        return None
    name = _name(node)
    if name not in _ALLOWED["function"] and name not in functions:
        return f"the function {name}"
    into_json = name.startswith("json_") or name == "->>"
    if into_json and not all(_is_plain_path(argument["expression"]) for argument in node["arguments"][1:]):
        return "a path into JSON with * or that is not constant"
    return None


def _is_plain_path(node: Node) -> bool:
    """Whether it leads to one value: `$..*` leads to all values inside all others."""
    return node["class"] == "CONSTANT" and "*" not in node["literal"]["text"]


def _name(node: Node) -> str:
    return str(node.get("function_name") or node.get("type_name") or "").lower()


def _dimensions(node: Node) -> int:
    """The sizes in a type, such as 512 for FLOAT[512]."""
    if node["class"] != "TYPE":
        return 0
    sizes = [child["literal"]["text"] for child in node["children"] if child["class"] == "CONSTANT"]
    return sum(int(size) if size.isdecimal() else _MAX_DIMENSIONS for size in sizes)
