"""The rows of a dataset by number: counted through its parts, found by SQL and by key, read where they are."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from clipmill.pipeline.dataset.dataset import Dataset
from clipmill.pipeline.dataset.output import Output
from clipmill.pipeline.dataset.subset import IDENTITY, Funnel, begin_subset, finish_subset, write_subset_part
from clipmill.pipeline.errors import UserError
from clipmill.pipeline.searching.numbered_rows import NumberedRows
from fakes import Ran
from made import make_dataset, unit_vectors


@pytest.fixture
def numbered(tmp_path: Path) -> NumberedRows:
    """Ten rows in three parts, the second of which has none."""
    parts = [
        {"image_embedding": unit_vectors(1, 6), "width": list(range(6)), "key": ["a", "b", "c", "a", "e", "f"]},
        {"image_embedding": unit_vectors(2, 0)},
        {"image_embedding": unit_vectors(3, 4), "width": list(range(6, 10)), "key": ["b", "z'; --", "ü\n", "x"]},
    ]
    return NumberedRows.of(make_dataset(tmp_path / "in", parts))


def test_rows_count_through_the_parts_in_their_order(numbered: NumberedRows) -> None:
    assert numbered.starts.tolist() == [0, 6, 6, 10] and len(numbered) == 10
    assert [row["width"] for row in numbered.read(range(10), ["width"])] == list(range(10))


def test_rows_are_read_in_the_order_asked_for(numbered: NumberedRows) -> None:
    assert [row["width"] for row in numbered.read([9, 0, 6, 0], ["width"])] == [9, 0, 6, 0]
    assert numbered.read([], ["width"]) == []


def test_only_the_row_groups_that_are_needed_are_read(ran: Ran) -> None:
    dataset = Dataset.open(str(ran.out))
    every = pa.Table.from_batches(dataset.batches(["key", "row"])).to_pylist()
    assert NumberedRows.of(dataset).read([3, 50, 119], ["key", "row"]) == [every[3], every[50], every[119]]


def test_sql_and_subsets_leave_some_rows(numbered: NumberedRows, tmp_path: Path) -> None:
    assert numbered.mask("width % 3 = 0 -- a comment").nonzero()[0].tolist() == [0, 3, 6, 9]
    output = Output.at(str(tmp_path / "subset")).prepare()
    begin_subset(output, "filter", numbered.dataset, {})
    for part in numbered.dataset.parts:
        write_subset_part(output, part, numbered.dataset.read(part, IDENTITY).slice(1, 3))
    subset = finish_subset(output, numbered.dataset, Funnel(10, {}, 6))
    assert numbered.mask(within=subset).nonzero()[0].tolist() == [1, 2, 3, 7, 8, 9]
    assert numbered.mask("width > 2", subset).nonzero()[0].tolist() == [3, 7, 8, 9]


@pytest.mark.parametrize("wrong", ["widht > 3", "width >", "key::int > 3"])
def test_sql_that_duckdb_refuses_is_one_line(wrong: str, numbered: NumberedRows) -> None:
    with pytest.raises(UserError, match="--where: ") as caught:
        numbered.mask(wrong)
    assert "\n" not in str(caught.value)


def test_every_row_of_a_key_is_named(numbered: NumberedRows) -> None:
    assert [numbered.of_key(key) for key in ("a", "b", "z'; --", "ü\n", "' OR 1=1 --")] == [
        [0, 3],
        [1, 6],
        [7],
        [8],
        [],
    ]
