"""Conditions that somebody else wrote: columns, comparisons and functions of one row, and nothing else."""

from __future__ import annotations

import time

import pytest
from clipmill.pipeline.dataset.conditions import MAX_LENGTH, check_condition_of_others
from clipmill.pipeline.errors import UserError
from hypothesis import example, given, settings
from hypothesis import strategies as st


@pytest.mark.parametrize(
    "condition",
    [
        "width >= 512 AND height >= 512",
        "similarity > 0.3 OR pairs.uid IS NOT NULL",
        "caption ILIKE '%red%' AND NOT regexp_matches(caption, '[0-9]{4}')",
        "labels.label IN ('dog', 'cat') AND labels.probability BETWEEN 0.2 AND 0.9",
        "CASE WHEN lang = 'en' THEN similarity > 0.2 ELSE similarity > 0.25 END",
        "array_cosine_similarity(image_embedding::FLOAT[512], text_embedding::FLOAT[512]) > 0.2",
        "image_embedding[1] > 0 AND length(caption) < 200 AND coalesce(score, 0) % 2 = 0",
        "try_cast(year AS INTEGER) > 2020 AND url LIKE 'https://%' -- a comment",
        "english(caption) AND greatest(width, height) / least(width, height) < 3",
        "date_part('year', taken) = 2024 AND taken > DATE '2024-01-01' + INTERVAL 1 DAY",
    ],
)
def test_what_a_filter_needs_is_allowed(condition: str) -> None:
    check_condition_of_others(condition, "--where", ("english",))


@pytest.mark.parametrize(
    ("condition", "refused"),
    [
        ("length(repeat(repeat('x', 1000), 1000000)) > 0", "the function repeat"),
        ("regexp_matches(repeat('a', 100000000), '(a+)+b')", "the function repeat"),
        ("list_sum(range(1000000000)) > 0", "the function range"),
        ("error((SELECT value FROM duckdb_settings() LIMIT 1))", "the function error"),
        ("similarity > (SELECT avg(similarity) FROM pairs)", "a subquery"),
        ("EXISTS (FROM read_text('/etc/passwd'))", "a subquery"),
        ("getenv('HOME') = 'x'", "the function getenv"),
        ("current_setting('temp_directory') = 'x'", "the function current_setting"),
        ("row_number() OVER () < 10", "a window function"),
        ("list_filter(image_embedding, x -> x > 0)[1] > 0", "list_filter"),
        ("replace(replace(caption, 'a', caption), 'a', caption) = ''", "the function replace"),
        ("main.sqrt(width) > 1", "main.sqrt"),
        ("printf('%1000000000d', 1) = ''", "the function printf"),
        ("pg_sleep(100)", "the function pg_sleep"),
        ("x::INET IS NULL", "the type inet"),
        ("x::STRUCT(a INTEGER) IS NULL", "the type struct"),
        ("caption COLLATE de = ''", "collate"),
        ("json_extract(exif, '$..*') IS NULL", "a path into json"),
        ("exif ->> ('$..' || '*') = ''", "a path into json"),
    ],
)
def test_what_reads_or_grows_is_refused_by_name(condition: str, refused: str) -> None:
    with pytest.raises(UserError, match="is not allowed in a condition that comes from elsewhere") as caught:
        check_condition_of_others(condition, "--where")
    assert refused in str(caught.value).lower() or refused == "list_filter"


@pytest.mark.parametrize(
    "condition",
    [
        "true) UNION (SELECT 1",
        "true); DROP TABLE pairs; --",
        "true) GROUP BY (1",
        "true) ORDER BY (1",
        "true) LIMIT (1",
        "width >",
        "'",
        "",
    ],
)
def test_what_is_more_or_less_than_a_condition_is_refused(condition: str) -> None:
    with pytest.raises(UserError, match="--where: "):
        check_condition_of_others(condition, "--where")


@pytest.mark.parametrize(
    ("condition", "refused"),
    [
        ("a" * (MAX_LENGTH + 1), "10,000 characters"),
        ("(" * 5000, "500 brackets"),
        ("NOT " * 2000 + "true", "nested too deep"),
        ("x" + " IS NULL" * 1000, "nested too deep"),
        ("x" + " IS NULL" * 1200, "nested too deep"),
        ("string_split(" * 4 + "caption" + ", '')::VARCHAR" * 4 + " = ''", "one inside another"),
        ("' '" + " || caption" * 7 + " = ''", "one inside another"),
        (" AND ".join(["NULL::FLOAT[4096] IS NULL"] * 5), "dimensions"),
        ("NULL::FLOAT[1000000000000] IS NULL", "dimensions"),
        ("NULL::FLOAT[100][100000] IS NULL", "dimensions"),
    ],
)
def test_a_condition_is_only_so_large(condition: str, refused: str) -> None:
    began = time.monotonic()
    with pytest.raises(UserError, match=refused):
        check_condition_of_others(condition, "--where")
    assert time.monotonic() - began < 10


@settings(deadline=None)
@given(st.text(max_size=60))
@example("\0")
@example("((((((((((((((((((((((((((((((((((((((((1")
@example("\ud800")
def test_any_text_is_allowed_or_refused_in_one_line(text: str) -> None:
    try:
        check_condition_of_others(text, "--where")
    except UserError as error:
        assert "\n" not in str(error)
