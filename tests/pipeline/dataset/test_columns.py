"""Columns copied from the samples: which may be chosen, and what becomes of the samples' values."""

from __future__ import annotations

from typing import Any

import pytest
from clipmill.pipeline.dataset.columns import OWN_COLUMNS, Column, columns_besides, listed, parse_listed
from clipmill.pipeline.dataset.part import PartLayout
from clipmill.pipeline.errors import UserError
from clipmill.pipeline.records import Decoded
from hypothesis import given, settings
from hypothesis import strategies as st


def value(metadata: dict[str, Any], column: Column) -> Any:
    """As it comes out of the table."""
    row = Decoded(0, "k", metadata=metadata)
    return PartLayout((column,), 4, 77).samples([row]).column(column.name).to_pylist()[0]


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("uid", Column("uid", "string")),
        ("uid:string", Column("uid", "string")),
        ("clip_score:float64", Column("clip_score", "float64")),
        ("width_then:int64", Column("width_then", "int64")),
        ("nsfw:bool", Column("nsfw", "bool")),
    ],
)
def test_a_column_is_a_name_and_a_type(text: str, column: Column) -> None:
    assert Column.parse(text) == column


def test_the_columns_of_a_dataset_that_goes_on_come_first_whichever_are_chosen() -> None:
    begun = columns_besides(["lang", "uid:int64"])
    assert listed(begun) == "url:string, caption:string, lang:string, uid:int64"
    for chosen in ([], ["lang"], ["uid:int64", "lang"], ["caption"]):
        assert columns_besides(chosen, begun) == begun
    assert listed(columns_besides(["a", "lang:bool"], begun)).endswith("lang:bool, uid:int64, a:string")


@settings(max_examples=30)
@given(st.lists(st.tuples(st.text(min_size=1), st.sampled_from(["string", "int64", "float64", "bool"]))))
def test_columns_listed_in_a_plan_are_read_as_they_were(pairs: list[tuple[str, str]]) -> None:
    columns = tuple(Column.parse(f"{name}:{kind}") for name, kind in pairs if ":" not in name and name.isprintable())
    assert parse_listed(listed(columns)) == columns


WRONG = ["", "half \ud83d", ":string", "uid:", "uid:decimal", "uid:int64:x", "uid: int64", *sorted(OWN_COLUMNS)]


@pytest.mark.parametrize("text", WRONG)
def test_what_is_no_column_is_refused_by_name(text: str) -> None:
    with pytest.raises(UserError) as caught:
        Column.parse(text)
    assert repr(text) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "found", "expected"),
    [
        ("string", "text", "text"),
        ("string", 7, "7"),
        ("string", True, "true"),
        ("string", ["ä", 1], '["ä", 1]'),
        ("string", {"a": None}, '{"a": null}'),
        ("string", "half \ud83d here", "half ? here"),
        ("string", ["half \ud83d"], '["half ?"]'),
        ("int64", 7, 7),
        ("int64", 7.0, 7),
        ("int64", 7.5, None),
        ("int64", " 7 ", 7),
        ("int64", "seven", None),
        ("int64", 2**63 - 1, 2**63 - 1),
        ("int64", 2**63, None),
        ("int64", float("inf"), None),
        ("int64", float("nan"), None),
        ("int64", [7], None),
        ("int64", {"a": 7}, None),
        ("float64", 0.25, 0.25),
        ("float64", 1, 1.0),
        ("float64", "0.25", 0.25),
        ("float64", "much", None),
        ("float64", 10**400, None),
        ("float64", [1], None),
        ("bool", True, True),
        ("bool", False, False),
        ("bool", "true", None),
        ("bool", 1, None),
    ],
)
def test_a_value_becomes_the_columns_type_or_null(kind: Any, found: Any, expected: Any) -> None:
    assert value({"x": found}, Column("x", kind)) == expected


@pytest.mark.parametrize("kind", ["string", "int64", "float64", "bool"])
def test_what_is_not_there_is_null(kind: Any) -> None:
    assert value({}, Column("x", kind)) is None
    assert value({"x": None}, Column("x", kind)) is None
