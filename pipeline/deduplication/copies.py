"""Groups of duplicates in SQL: exact copies, and which of each group is the best."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa

from ..dataset.dataset import Dataset
from ..dataset.sql import files, identifier, literal
from ..dataset.subset import Funnel
from .components import Ids
from .parts import PART

FAILED, EXACT, NEAR = "failed", "exact duplicate", "near duplicate"  # reasons to drop
EQUAL_THERE, NEAR_THERE = "equal to a row of --against", "near a row of --against"


def view_rows(
    connection: duckdb.DuckDBPyConnection, dataset: Dataset, content: str, keep_by: str, against: str | None
) -> None:
    """The view `rows`: `pairs` with `id`, int64, ascending in the dataset's order; `content`, equal for exact copies;
    `value`, by which the best is kept; and `there`, null unless the row is in the file `against` (a URL): whether it is
    there for being near, not equal. Those rows have an error in the view, so that nothing else is done with them."""
    there = (
        f"SELECT id AS other, is_near FROM {files([against])}"
        if against
        else "SELECT 0 AS other, true AS is_near LIMIT 0"
    )
    numbers = {"shard": dataset.shards(), "number": range(len(dataset.parts))}
    connection.register("parts", pa.table(numbers, pa.schema([("shard", pa.string()), ("number", pa.int64())])))
    connection.execute(
        f"CREATE VIEW rows AS SELECT number << {PART} | row AS id, key, shard, row, is_near AS there, "
        f"CASE WHEN is_near IS NULL THEN error ELSE '' END AS error, "
        f"{identifier(content)} AS content, {identifier(keep_by)} AS value "
        f"FROM pairs JOIN parts USING (shard) LEFT JOIN ({there}) ON other = number << {PART} | row"
    )


def write_exact(connection: duckdb.DuckDBPyConnection, path: Path, wanted: bool) -> None:
    """Parquet of `id`, and `best`, the copy that is kept in its place, in order of id. No rows unless `wanted`."""
    connection.execute(
        f"""
        COPY (
            SELECT id, first_value(id) OVER (PARTITION BY content ORDER BY value DESC NULLS LAST, id) AS best
            FROM rows WHERE error IS NULL AND {wanted} AND content IN (
                SELECT content FROM rows WHERE error IS NULL GROUP BY content HAVING count(*) > 1
            )
            QUALIFY id <> best ORDER BY id
        ) TO {literal(str(path))} (FORMAT parquet, COMPRESSION zstd)
        """
    )


def count_left(connection: duckdb.DuckDBPyConnection, exact: str) -> int:
    """The number of embedded rows, exact copies of better ones left out. exact: URL of the file of `write_exact`."""
    query = f"SELECT count(*) - (SELECT count(*) FROM {files([exact])}) FROM rows WHERE error IS NULL"
    ((count,),) = connection.execute(query).fetchall()
    return int(count)


@dataclass(frozen=True)
class Written:
    """Where `write_groups` writes."""

    groups: Path
    dropped: Path


def write_groups(
    connection: duckdb.DuckDBPyConnection, exact: str, near: Ids, to: Written, against: bool = False
) -> Funnel:
    """exact: URL of the file of `write_exact`. near: int64 [n, 2], ids, each with the lowest id that it is near to.
    against: whether rows were compared with other datasets', too.

    groups: `key`, `shard`, `row`, `group` (from 0, in the dataset's order) and `kept`. dropped: `id` and `reason`, in
    order of id.
    """
    connection.register("near", pa.table({"id": near[:, 0], "first": near[:, 1]}))
    connection.execute(
        f"""
        CREATE TEMP TABLE members AS
            WITH exact AS (SELECT id, best FROM {files([exact])}), everybody AS (
                SELECT id, best, true AS copy FROM exact
                UNION ALL SELECT id, id, false FROM (SELECT best AS id FROM exact UNION SELECT id FROM near)
            )
            SELECT everybody.id, copy, coalesce(near.first, best) AS first
            FROM everybody LEFT JOIN near ON near.id = everybody.best;
        CREATE TEMP TABLE grouped AS
            SELECT id, key, shard, row, copy, min(id) OVER together AS lowest, row_number() OVER best = 1 AS kept
            FROM members JOIN rows USING (id)
            WINDOW together AS (PARTITION BY first),
                   best AS (PARTITION BY first ORDER BY value DESC NULLS LAST, id);
        COPY (
            SELECT key, shard, row, dense_rank() OVER (ORDER BY lowest) - 1 AS "group", kept
            FROM grouped ORDER BY lowest, id
        ) TO {literal(str(to.groups))} (FORMAT parquet, COMPRESSION zstd);
        COPY (
            SELECT id FROM grouped WHERE NOT kept UNION ALL SELECT id FROM rows WHERE there IS NOT NULL ORDER BY id
        )
            TO {literal(str(to.dropped))} (FORMAT parquet, COMPRESSION zstd);
        """
    )
    ((rows, *reasons),) = connection.execute(
        "SELECT count(*), count(error) - count(there), count(*) FILTER (NOT there), count(*) FILTER (there), "
        "(SELECT count(*) FROM grouped WHERE copy), "
        "(SELECT count(*) FROM grouped WHERE NOT copy AND NOT kept) FROM rows"
    ).fetchall()
    names = (FAILED, EQUAL_THERE, NEAR_THERE, EXACT, NEAR)
    dropped = dict(zip(names, reasons, strict=True))
    if not against:
        del dropped[EQUAL_THERE], dropped[NEAR_THERE]
    return Funnel(rows, dropped, rows - sum(reasons))
