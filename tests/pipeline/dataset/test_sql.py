"""SQL over a dataset: NaN is no value there, whatever Parquet's statistics say and DuckDB makes of them."""

from __future__ import annotations

from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from clipmill.pipeline.dataset.sql import connect
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made import make_dataset

CONDITIONS = [
    "score > 0.3", "score >= 0.9", "score <> 0.2", "score = 0.2", "NOT (score > 0.3)", "score < 0.5",
    "score IS NULL", "score IS NOT NULL", "score IN (0.2, 0.9)", "score BETWEEN 0.1 AND 0.5", "score = 'nan'::DOUBLE",
    "coalesce(score, 1) = 1", "isnan(score)", "NOT isnan(score)", "score IS DISTINCT FROM 0.2", "abs(score) > 0.3",
    "score > 0.3 OR score IS NULL", "(score > 0.3) IS NOT TRUE", "score + 1 > 1.3", "-score < -0.3", "isfinite(score)",
    "score > similarity", "least(score, similarity) >= 0.2", "score > (SELECT avg(score) FROM pairs)",
]  # fmt: skip
NUMBERS = st.lists(
    st.sampled_from([None, float("nan"), 0.2, 0.5, 0.9, float("inf"), -float("inf")]), min_size=6, max_size=6
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(scores=NUMBERS, similarities=NUMBERS, group=st.sampled_from([1, 3, 6]))
def test_every_condition_sees_null_where_there_is_nan(
    tmp_path: Path, scores: list[float | None], similarities: list[float | None], group: int
) -> None:
    """group: rows of a row group, each with statistics of its own."""
    columns = {"score": scores, "similarity": similarities}
    dataset = make_dataset(tmp_path / "dataset", [columns], columns=["score:float64"])
    path = tmp_path / "dataset/data" / dataset.parts[0]
    pq.write_table(pq.read_table(path), path, row_group_size=group)
    table = pa.table({"row": pa.array(range(6), pa.int32())})
    for name, values in columns.items():
        numbers = pa.array([None if value is None or np.isnan(value) else value for value in values])
        table = table.append_column(name, numbers.cast(dataset.schema.field(name).type))
    with connect(dataset) as connection, duckdb.connect() as plain:
        plain.register("table_without_nan", table)
        plain.execute("CREATE TABLE pairs AS SELECT * FROM table_without_nan")
        for condition in CONDITIONS:
            query = f"SELECT row FROM pairs WHERE {condition} ORDER BY row"
            assert connection.execute(query).fetchall() == plain.execute(query).fetchall(), condition


@pytest.mark.parametrize("order", ["ASC", "DESC"])
def test_nan_is_neither_the_highest_nor_the_lowest(tmp_path: Path, order: str) -> None:
    dataset = make_dataset(tmp_path / "dataset", [{"similarity": [0.5, float("nan"), 0.25]}])
    with connect(dataset) as connection:
        rows = connection.execute(f"SELECT row FROM pairs ORDER BY similarity {order} NULLS LAST").fetchall()
        ((lowest, highest, values),) = connection.execute(
            "SELECT min(similarity), max(similarity), count(similarity) FROM pairs"
        ).fetchall()
    assert rows[-1] == (1,) and (lowest, highest, values) == (0.25, 0.5, 2)
