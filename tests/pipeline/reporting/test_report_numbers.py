"""A report's numbers equal the Parquet's, computed here in plain NumPy and Python."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from clipmill.pipeline.dataset.dataset import Dataset
from clipmill.pipeline.dataset.sql import connect
from clipmill.pipeline.reporting.frame import FRACTIONS
from clipmill.pipeline.reporting.histogram import Histogram, median_of
from clipmill.pipeline.reporting.numbers import Numbers, numbers_of
from clipmill.pipeline.reporting.similarity import Similarity, similarity_of
from clipmill.pipeline.reporting.sums import Scheme
from fakes import Ran, parts
from hypothesis import given
from hypothesis import strategies as st
from made import make_dataset
from report_kit import scheme_of, sum_up

CONNECTION = duckdb.connect()  # opening one takes longer than an example
OTHERS = "'a' AS shard, NULL AS error, 1 AS width, 1 AS height, 1 AS caption_tokens, false AS caption_truncated"


@pytest.fixture(scope="module")
def numbers(ran: Ran) -> Numbers:
    dataset = Dataset.open(str(ran.out))
    return numbers_in(dataset)


def numbers_in(dataset: Dataset) -> Numbers:
    with connect(dataset) as connection:
        sum_up(connection, scheme_of(dataset))
        return numbers_of(connection, [model.alias for model in dataset.models])


@pytest.fixture(scope="module")
def rows(ran: Ran) -> list[dict[str, Any]]:
    return parts(ran.out)


@pytest.fixture(scope="module")
def embedded(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in rows if row["error"] is None]


def counts_in(values: npt.ArrayLike, histogram: Histogram) -> tuple[int, ...]:
    return tuple(np.histogram(values, histogram.edges)[0])


def test_counts_and_failures(numbers: Numbers, rows: list[dict[str, Any]], embedded: list[dict[str, Any]]) -> None:
    counts = numbers.counts
    assert (counts.rows, counts.embedded, counts.failed) == (len(rows), len(embedded), len(rows) - len(embedded))
    assert counts.images == sum(row["image_embedding"] is not None for row in rows)
    assert counts.texts == sum(row["text_embedding"] is not None for row in rows)
    assert counts.pairs == sum(row["similarity"] is not None for row in rows)
    assert counts.truncated == sum(bool(row["caption_truncated"]) for row in embedded)
    assert numbers.failures == Counter(row["error"].split(" (")[0] for row in rows if row["error"] is not None)


def test_sizes_and_captions(numbers: Numbers, embedded: list[dict[str, Any]]) -> None:
    assert numbers.sizes and numbers.captions
    sides = [min(row["width"], row["height"]) for row in embedded]
    aspects = [row["width"] / row["height"] for row in embedded]
    tokens = [row["caption_tokens"] for row in embedded]
    assert numbers.sizes.sides.counts == counts_in(sides, numbers.sizes.sides)
    assert numbers.sizes.aspects.counts == counts_in(aspects, numbers.sizes.aspects)
    assert numbers.captions.tokens.counts == counts_in(tokens, numbers.captions.tokens)
    assert numbers.sizes.median == sorted(sides)[(len(sides) - 1) // 2]
    assert numbers.captions.median == sorted(tokens)[(len(tokens) - 1) // 2]


def check(found: Similarity, values: npt.NDArray[np.float64]) -> None:
    assert found.scored == len(values)
    assert (found.least, found.greatest) == (values.min(), values.max())
    assert found.mean == pytest.approx(values.mean(), abs=1e-9)
    assert found.deviation == pytest.approx(values.std(ddof=1) if len(values) > 1 else 0.0, abs=1e-6)
    assert found.histogram.counts == counts_in(values, found.histogram)
    assert [rows for _, rows in found.curve] == [(values >= threshold).sum() for threshold, _ in found.curve]
    downwards = -np.sort(-values)
    for cut, fraction in zip(found.cuts, FRACTIONS, strict=True):
        assert cut.fraction == fraction
        assert cut.threshold == downwards[int(len(values) * fraction)]  # as DataComp's baselines take it
        assert cut.rows == (values >= cut.threshold).sum()


def test_similarity(numbers: Numbers, rows: list[dict[str, Any]]) -> None:
    (found,) = numbers.similarities
    check(found, np.array([row["similarity"] for row in rows if row["similarity"] is not None], np.float64))


@given(
    st.lists(
        st.one_of(
            st.none(),
            st.floats(-1, 1, width=32),
            st.sampled_from([0.25, 0.28, 0.3, -0.001, 1.0000001, float("nan"), float("inf")]),
        ),
        max_size=40,
    )
)
def test_thresholds_are_exact_with_ties_and_without_numbers(values: list[float | None]) -> None:
    column = pa.array(values, pa.float32())
    kept = np.array([value for value in column.to_pylist() if value is not None and np.isfinite(value)], np.float64)
    CONNECTION.register("pairs", pa.table({"b32_similarity": column, "row": range(len(values))}))
    CONNECTION.execute(f"CREATE OR REPLACE VIEW pairs_with_all AS SELECT *, {OTHERS} FROM pairs")
    sum_up(CONNECTION, Scheme({"b32": "b32_similarity"}, "b32", (), by_source=False), "pairs_with_all")
    found = similarity_of(CONNECTION, "b32")
    if found is None:
        assert not len(kept)
    else:
        check(found, kept)


@given(st.dictionaries(st.integers(0, 50), st.integers(1, 5), min_size=1))
def test_a_median_is_one_of_the_values(counted: dict[float, int]) -> None:
    values = sorted(value for value, count in counted.items() for _ in range(count))
    assert median_of(counted) == values[(len(values) - 1) // 2]


def test_sizes_of_any_spread_have_few_bars(tmp_path: Path) -> None:
    for name, widths in {"alike": [256] * 50, "near": [200, 799], "far": [3, 90_000], "usual": [60, 5000]}.items():
        dataset = make_dataset(tmp_path / name, [{"width": widths, "height": [100_000] * len(widths)}])
        sizes = numbers_in(dataset).sizes
        assert sizes is not None
        assert sizes.sides.counts == counts_in(widths, sizes.sides)
        assert sum(sizes.sides.counts) == sum(sizes.aspects.counts) == len(widths)
        assert len(sizes.sides.counts) <= 40


def test_each_model_has_its_similarity_and_rare_reasons_are_summed_up(tmp_path: Path) -> None:
    rows = {
        "b32_similarity": [0.1, 0.2, None],
        "error": [None, None, "decode: not an image (of 3 bytes)"],
    }
    many = {"error": [f"read: reason {number}" for number in range(30)]}
    dataset = make_dataset(tmp_path, [rows, many], models=[("b32", "ViT-B/32"), ("l14", "ViT-L/14")])
    numbers = numbers_in(dataset)
    assert [each.alias for each in numbers.similarities] == ["b32"]
    assert numbers.failures["decode: not an image"] == 1
    assert (len(numbers.failures), numbers.failures["other reasons"]) == (21, 11)
    assert numbers.sizes is None and numbers.captions is None
