"""What a report is made of: sums over rows, that can be added to those of other rows, and a few sample rows.

All are in one table. A sum is of something (`what`), by a `name` or by a `number`: a bin, a value, or an
infinity for what is above or below all values of interest. `total` and `squares` add up whole numbers of 2**-40, so
that sums do not depend on the order. Samples have a place besides: of each `what` and `number`, those of the lowest
`position`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import duckdb

from ..dataset.sql import identifier, literal
from .frame import BINS, COARSE, Bins, Frame, Window

A_GROUP = 12  # sample rows
UNIT = 1 << 40  # of `total`; its square is that of `squares`
BARS = 20  # of probabilities
COUNTS = {  # by name: which rows
    "rows": "true",
    "embedded": "error IS NULL",
    "failed": "error IS NOT NULL",
    "images": "error IS NULL AND width IS NOT NULL",
    "texts": "error IS NULL AND caption_tokens IS NOT NULL",
    "pairs": "error IS NULL AND width IS NOT NULL AND caption_tokens IS NOT NULL",
    "truncated": "error IS NULL AND caption_truncated",
}
_DOMAIN = r"regexp_extract(lower(url), '^[a-z]+://(?:[^/@]*@)?(?:www\.)?([^/:?#]+)', 1)"


@dataclass(frozen=True)
class Scheme:
    """What is added up. Cheap to send to workers."""

    similarities: Mapping[str, str]  # by model's alias: the column
    ranked: str  # the alias of the model that recipes rank by
    conditions: tuple[str, ...]  # of recipes, in SQL, but for those that depend on a threshold
    by_source: bool  # rows have addresses
    by_label: bool = False
    has_background: bool = False  # labels tell how well the background fits


def bins_of(connection: duckdb.DuckDBPyConnection, scheme: Scheme, source: str) -> tuple[int, dict[str, Bins]]:
    """How many rows there are, and in which bins their similarities are, by model's alias. source: in SQL, what rows
    are read from."""
    ((rows,),) = connection.execute(f"SELECT count(*) FROM {source}").fetchall()
    bins: dict[str, Bins] = {}
    for alias, column in scheme.similarities.items():
        value = f"{identifier(column)}::DOUBLE"
        query = f"SELECT {_bin(value)} AS bin, count(*) FROM {source} WHERE isfinite({value}) GROUP BY bin"
        bins[alias] = dict(connection.execute(query).fetchall())
    return rows, bins


def add_up(connection: duckdb.DuckDBPyConnection, scheme: Scheme, frame: Frame, source: str) -> None:
    """Makes the table `sums`. source: as for `bins_of`; with labels where the scheme has them."""
    connection.execute(f"CREATE OR REPLACE TEMP TABLE taken AS SELECT {_taken(scheme, frame)} FROM {source}")
    queries = [*_of_rows(), *_of_recipes(scheme, frame)]
    for number, alias in enumerate(scheme.similarities):
        queries += _of_similarity(alias, f"s{number}", frame)
        queries += _of_groups(scheme, alias, f"s{number}", frame)
    if scheme.by_label:
        queries += _of_labels(scheme)
    connection.execute(
        "CREATE OR REPLACE TABLE sums (what VARCHAR, name VARCHAR, number DOUBLE, rows BIGINT, total DECIMAL(38, 0), "
        "squares DECIMAL(38, 0), position DOUBLE, shard VARCHAR, row INTEGER, figure DOUBLE)"
    )
    for query in queries:
        connection.execute(f"INSERT INTO sums BY NAME ({query})")
    connection.execute("DROP TABLE taken")


def merge(connection: duckdb.DuckDBPyConnection, source: str) -> None:
    """Makes the table `sums` of several. source: in SQL, the rows of all of them."""
    connection.execute(
        f"CREATE OR REPLACE TABLE sums AS SELECT what, name, number, sum(rows)::BIGINT AS rows, sum(total) AS total, "
        f"sum(squares) AS squares, NULL::DOUBLE AS position, NULL::VARCHAR AS shard, NULL::INTEGER AS row, "
        f"NULL::DOUBLE AS figure FROM {source} WHERE shard IS NULL GROUP BY what, name, number UNION ALL BY NAME "
        f"SELECT * FROM {source} WHERE shard IS NOT NULL "
        f"QUALIFY row_number() OVER (PARTITION BY what, number ORDER BY position, shard, row) <= {A_GROUP}"
    )


def _bin(value: str) -> str:
    return f"floor({value} * {BINS})::INTEGER"


def _taken(scheme: Scheme, frame: Frame) -> str:
    """The columns that are looked at, each computed once."""
    values = [
        "shard, row, hash(row, shard) AS h, error, width, height, caption_tokens, caption_truncated",
        f"{_DOMAIN if scheme.by_source else 'NULL'} AS source",
    ]
    for number, column in enumerate(scheme.similarities.values()):
        values.append(f"{identifier(column)}::DOUBLE AS s{number}")
    if scheme.by_label:
        # in float32, as `label` has it: the best class's share beside the background
        background = (
            "labels.background > labels.probability * (1::FLOAT - labels.background)"
            if scheme.has_background
            else "false"
        )
        values.append(f"labels.label, labels.probability::DOUBLE AS probability, {background} AS uncovered")
    holds = "".join(f", CASE WHEN ({condition}\n) THEN '1' ELSE '0' END" for condition in scheme.conditions)
    judged = f"CASE WHEN hash(row, shard) % {1 << frame.level} = 0 THEN concat(''{holds}) END"
    return ", ".join([*values, f"{judged} AS judged"])


def _of_rows() -> list[str]:
    shapes = "FROM taken WHERE error IS NULL AND width > 0 AND height > 0 GROUP BY number"
    counts = ", ".join(f"count(*) FILTER ({rows})" for rows in COUNTS.values())
    names = ", ".join(map(literal, COUNTS))
    return [
        f"SELECT 'counts' AS what, unnest([{names}]) AS name, unnest([{counts}]) AS rows FROM taken",
        "SELECT 'failures' AS what, split_part(error, ' (', 1) AS name, count(*) AS rows FROM taken "
        "WHERE error IS NOT NULL GROUP BY name",
        f"SELECT 'sides' AS what, least(width, height) AS number, count(*) AS rows {shapes}",
        f"SELECT 'aspects' AS what, round(8 * log2(width / height)) AS number, count(*) AS rows {shapes}",
        "SELECT 'tokens' AS what, caption_tokens AS number, count(*) AS rows FROM taken WHERE error IS NULL "
        "AND caption_tokens IS NOT NULL GROUP BY number",
        _few("any", "h::DOUBLE", "NULL", "error IS NULL"),
    ]


def _few(what: str, position: str, figure: str, where: str, name: str = "NULL") -> str:
    """Sample rows."""
    return (
        f"SELECT {literal(what)} AS what, {name} AS name, {position} AS position, shard, row, {figure} AS figure "
        f"FROM taken WHERE {where} ORDER BY position, shard, row LIMIT {A_GROUP}"
    )


def _of_similarity(alias: str, value: str, frame: Frame) -> list[str]:
    """Sums by bin, values near thresholds, and rows: the lowest, the highest, and some of each bin."""
    bin, whole, scored = _bin(value), _whole(value), f"isfinite({value})"
    windows = frame.windows.get(alias, ())
    near = " OR ".join(f"({bin} BETWEEN {first} AND {stop - 1})" for first, stop in windows)
    row = f"{{'position': h::DOUBLE, 'shard': shard, 'row': row, 'figure': {value}}}"
    return [
        f"SELECT {literal(f'bins {alias}')} AS what, {bin} AS number, count(*) AS rows, sum({whole}) AS total, "
        f"sum({whole} * {whole}) AS squares FROM taken WHERE {scored} GROUP BY number",
        f"SELECT {literal(f'values {alias}')} AS what, {value} AS number, count(*) AS rows FROM taken "
        f"WHERE {scored} AND ({near or 'false'}) GROUP BY number",
        _few(f"lowest {alias}", value, value, scored),
        _few(f"highest {alias}", f"-{value}", value, scored),
        f"SELECT {literal(f'along {alias}')} AS what, number, unnest(few, recursive := true) FROM ("
        f"SELECT floor({value} * {COARSE}) AS number, arg_min({row}, h, {A_GROUP}) AS few "
        f"FROM taken WHERE {scored} GROUP BY number)",
    ]


def _of_groups(scheme: Scheme, alias: str, value: str, frame: Frame) -> list[str]:
    window = frame.top(alias)
    by = [name for name, there in (("source", scheme.by_source), ("label", scheme.by_label)) if there]
    return [
        f"SELECT {literal(f'{name} {alias}')} AS what, {name} AS name, {_edge(value, window)} AS number, "
        f"count(*) AS rows, sum({_whole(value)}) AS total FROM taken WHERE isfinite({value}) AND {name} <> '' "
        "GROUP BY name, number"
        for name in by
        if window is not None
    ]


def _of_labels(scheme: Scheme) -> list[str]:
    labelled = "FROM taken WHERE label IS NOT NULL"
    return [
        f"SELECT 'labels' AS what, label AS name, count(*) AS rows, sum({_whole('probability')}) AS total {labelled} "
        "GROUP BY name",
        f"SELECT 'uncovered' AS what, label AS name, count(*) AS rows {labelled} AND uncovered GROUP BY name",
        f"SELECT 'probabilities' AS what, least(floor(probability * {BARS}), {BARS - 1}) AS number, count(*) AS rows "
        f"{labelled} GROUP BY number",
        _few("surest", "-probability", "probability", "label IS NOT NULL", "label"),
        _few("least sure", "probability", "probability", "label IS NOT NULL", "label"),
    ]


def _of_recipes(scheme: Scheme, frame: Frame) -> list[str]:
    """By which conditions hold, of each level."""
    ranked = {alias: f"s{number}" for number, alias in enumerate(scheme.similarities)}[scheme.ranked]
    odd = f"h | {1 << 63}::UBIGINT"  # what follows is not defined for zero
    level = f"bit_count(xor({odd}, ({odd}) - 1)) - 1"
    return [
        f"SELECT 'recipes ' || {level} AS what, judged AS name, {_edge(ranked, frame.top(scheme.ranked))} AS number, "
        "count(*) AS rows FROM taken WHERE judged IS NOT NULL GROUP BY ALL"
    ]


def _edge(value: str, window: Window | None) -> str:
    """The value where it may be a threshold; an infinity above and below."""
    if window is None:
        return "NULL"
    first, stop = window
    return (
        f"CASE WHEN {value} * {BINS} >= {stop} THEN 'inf'::DOUBLE WHEN {value} * {BINS} < {first} THEN "
        f"'-inf'::DOUBLE ELSE {value} END"
    )


def _whole(value: str) -> str:
    return f"round({value} * {UNIT})::HUGEINT"
