"""NaN is no value, as null is: in conditions, scores and labels, for rows that stay and for those that go."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from clipmill.pipeline import DedupJob, FilterJob, SearchJob, dedup, filter, search
from clipmill.pipeline.dataset.dataset import Dataset
from clipmill.pipeline.dataset.derived import begin
from clipmill.pipeline.dataset.output import Output
from clipmill.pipeline.dataset.source import PART, source_of
from clipmill.pipeline.dataset.sql import connect
from clipmill.pipeline.dataset.subset import Subset
from filter_kit import NAN
from made import unit_vectors

SCORES = [NAN, 0.2, 0.9, None, float("inf"), NAN]  # rows 0 to 5
COLUMNS = ("score:float64",)


def kept(job: FilterJob) -> list[int]:
    filter(job)
    subset = Subset.open(job.out)
    return [row for part in subset.parts for row in pq.read_table(Path(job.out) / "data" / part)["row"].to_pylist()]


@pytest.fixture
def job(make: Any) -> FilterJob:
    made: FilterJob = make([{"similarity": SCORES, "score": SCORES}], columns=COLUMNS)
    return made


@pytest.mark.parametrize("column", ["score", "similarity", "pairs.score"])
@pytest.mark.parametrize(
    ("condition", "rows"),
    [
        ("{} > 0.3", [2, 4]),
        ("{} <> 0.2", [2, 4]),
        ("NOT ({} > 0.3)", [1]),
        ("{} IS NULL", [0, 3, 5]),
        ("isnan({})", []),
        ("coalesce({}, 1) = 1", [0, 3, 5]),
        ("greatest({}, 0) > 0.5", [2, 4]),
        ("{0} >= (SELECT max(p.score) FROM pairs AS p)", [4]),
    ],
)
def test_a_condition_takes_nan_as_it_takes_null(job: FilterJob, column: str, condition: str, rows: list[int]) -> None:
    assert kept(replace(job, where=[condition.format(column)])) == rows


def test_a_score_of_nan_is_no_score(job: FilterJob, tmp_path: Path) -> None:
    assert kept(replace(job, by="score", top_fraction=0.5)) == [2, 4]
    assert kept(replace(job, by="score", threshold=0.1, out=str(tmp_path / "threshold"))) == [1, 2, 4]


def test_what_is_kept_keeps_its_nan(job: FilterJob) -> None:
    """The subset's columns are the dataset's, as they are."""
    filter(replace(job, where=["row = 0"], columns=["score"]))
    (part,) = Subset.open(job.out).parts
    assert str(pq.read_table(Path(job.out) / "data" / part)["score"].to_pylist()) == "[nan]"


def test_of_labels_too(job: FilterJob, tmp_path: Path) -> None:
    dataset = Dataset.open(job.dataset)
    output = Output.at(str(tmp_path / "labels")).prepare()
    begin(output, "label", {"dataset": dataset.url, "fingerprint": dataset.settings.digest})
    (part,) = dataset.parts
    table = dataset.read(part, ["key", "shard", "row", "error"])
    for name in ("probability", "margin"):
        table = table.append_column(name, pa.array(SCORES, pa.float32()))
    source = {PART: source_of(dataset, part, None)}
    with output.staged(f"data/{part}") as path:
        pq.write_table(table.replace_schema_metadata(source), path)
    assert kept(replace(job, labels=output.url, where=["labels.probability > 0.3", "margin > 0.3"])) == [2, 4]


@pytest.mark.parametrize("kind", [pa.float16(), pa.float32(), pa.float64()])
def test_of_every_width(job: FilterJob, kind: pa.DataType) -> None:
    """As other tools may write a column into a dataset's parts."""
    (part,) = Dataset.open(job.dataset).parts
    path = Path(job.dataset) / "data" / part
    table = pq.read_table(path)
    numbers = pa.array([None if score is None else kind.to_pandas_dtype()(score) for score in SCORES], kind)
    nested = pa.array([[NAN], [1.0], None, [], [NAN], [2.0]], pa.list_(pa.float32()))
    table = table.append_column("a b", numbers).append_column('quoted"', numbers).append_column("nested", nested)
    pq.write_table(table, path)
    with connect(Dataset.open(job.dataset)) as connection:
        found = connection.execute('SELECT row FROM pairs WHERE "a b" > 0.3 AND "quoted""" > 0.3').fetchall()
        assert found == [(2,), (4,)]
        (count,) = connection.execute("SELECT count_if(isnan(nested[1])) FROM pairs").fetchall()
        assert count == (2,)  # inside a list every value counts, as the embeddings' do


def test_for_a_search_and_for_duplicates_too(make: Any, tmp_path: Path) -> None:
    vectors, files = unit_vectors(1, 6), ["same"] * 6
    columns = {"image_embedding": vectors, "sha256": files, "score": [*SCORES[:4], 0.1, NAN]}
    job = make([columns], columns=COLUMNS)
    found = search(SearchJob(job.dataset, key="000000000", where="score > 0.15", k=10))
    assert sorted(hit.row["row"] for hit in found.hits) == [1, 2]
    dedup(DedupJob(job.dataset, str(tmp_path / "unique"), near=False, keep_by="score"))
    (part,) = Subset.open(str(tmp_path / "unique")).parts
    assert pq.read_table(tmp_path / "unique/data" / part)["row"].to_pylist() == [2]  # the highest, which NaN is not
