"""What a report tells of columns that are named: its own figures by hand, of the dataset and of tables beside it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from clipmill.pipeline import FilterJob, ReportJob, filter, report
from clipmill.pipeline.dataset.dataset import Dataset
from clipmill.pipeline.errors import UserError
from clipmill.pipeline.reporting.columns import NumberColumn, TextColumn, reported_columns
from filter_kit import many
from made import make_dataset
from side_kit import write_side

NAN = float("nan")


def scores(rows: int) -> list[Any]:
    """Far outliers at both ends, ties, null and NaN."""
    values = np.random.default_rng(rows).normal(5, 2, rows).astype(np.float32).astype(float)
    values[:40:4] = 4.5
    if rows == 600:
        values[-2:] = (-1e6, 1e30)
    return [None if n % 11 == 3 else NAN if n % 7 == 0 else value for n, value in enumerate(values.tolist())]


@pytest.fixture
def job(tmp_path: Path) -> ReportJob:
    dataset = make_dataset(tmp_path / "in", many(rows=3000))

    def columns(own: pa.Table) -> dict[str, Any]:
        rows = len(own)
        words = pa.array([None if n % 5 == 0 else f"word {n % 40}" for n in range(rows)], pa.string())
        constant, none = pa.array([7] * rows, pa.int64()), pa.nulls(rows, pa.float32())
        return {"score": pa.array(scores(rows), pa.float64()), "word": words, "same": constant, "none": none}

    joins = {"s": write_side(tmp_path / "side", dataset, columns)}
    names = ("s.score", "s.word", "s.same", "s.none", "width", "caption")
    return ReportJob(dataset.url, str(tmp_path / "report.html"), joins=joins, columns=names)


def test_numbers_and_text_are_told_as_by_hand(job: ReportJob) -> None:
    made = report(job)
    dataset = Dataset.open(job.dataset)
    lengths = [dataset.read(part, ["row"]).num_rows for part in dataset.parts]
    score, word, same, none, width, caption = made.columns
    known = np.array([v for rows in lengths for v in scores(rows) if v is not None and not np.isnan(v)])
    assert isinstance(score, NumberColumn) and score.histogram is not None
    assert (score.rows, score.least, score.greatest) == (len(known), known.min(), known.max())
    assert score.mean == pytest.approx(known.mean()) and score.deviation == pytest.approx(known.std(ddof=1))
    for cut in score.cuts:
        assert cut.threshold == np.sort(known)[::-1][int(cut.fraction * len(known))]
        assert cut.rows == (known >= cut.threshold).sum()
    edges = np.array(score.histogram.edges)
    inner = np.histogram(np.clip(known, edges[0], edges[-1] - 1e-9), edges)[0]
    assert list(score.histogram.counts) == inner.tolist() and 10 < len(inner) < 100 and edges[-1] < 100
    assert isinstance(word, TextColumn) and (word.rows, word.count, len(word.most)) == (
        sum(n % 5 > 0 for rows in lengths for n in range(rows)),
        32,
        16,
    )
    similar = [v for part in dataset.parts for v in dataset.read(part, ["similarity"])["similarity"][1::40].to_pylist()]
    (first,) = (of for of in word.most if of.value == "word 1")
    assert first.similarity == pytest.approx(np.mean([v for v in similar if v is not None and not np.isnan(v)]))
    assert isinstance(same, NumberColumn) and same.histogram is not None
    assert (same.least, same.greatest, same.deviation, same.histogram.counts) == (7, 7, 0, (sum(lengths),))
    assert none == NumberColumn("s.none", 0)
    assert isinstance(width, NumberColumn) and width.rows == sum(lengths)
    assert isinstance(caption, TextColumn) and caption.count == max(lengths)
    page = Path(job.out).read_text()
    assert all(f"<h2>{name}</h2>" in page for name in job.columns) and "No row has a number in this column" in page
    assert f"{score.rows:,} rows have a number, from -1e+06 to 1e+30" in page


def test_a_threshold_keeps_what_filter_keeps_and_a_subset_has_its_own(job: ReportJob, tmp_path: Path) -> None:
    selected = FilterJob(job.dataset, str(tmp_path / "s"), joins=job.joins, by="s.score", top_fraction=0.3, failed=True)
    kept = filter(selected).funnel.kept
    dataset = Dataset.open(job.dataset).join(job.joins)
    (score,) = reported_columns(dataset, None, ["s.score"], None)
    assert isinstance(score, NumberColumn) and [cut.rows for cut in score.cuts if cut.fraction == 0.3] == [kept]
    made = report(replace(job, within=selected.out, columns=["s.score"]))
    assert [of.rows for of in made.columns] == [kept]


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"columns": ["s.scor"]}, "--column s.scor: no such column; there are key, .*s.score"),
        ({"columns": ["width"]}, "--join s=.*: none of its columns is named; add --column s.NAME"),
        ({"columns": ["s.word", "image_embedding"]}, "--column image_embedding: the column holds fixed_size_list"),
        (
            {"joins": {"labels": "x"}, "columns": ["labels.label"], "labels": "y"},
            "SQL calls what --labels y holds so; choose another",
        ),
    ],
)
def test_wrong_names_are_one_line(changes: Any, complaint: str, job: ReportJob) -> None:
    with pytest.raises(UserError, match=complaint) as raised:
        report(replace(job, **changes))
    assert "\n" not in str(raised.value) and not Path(job.out).exists()


def test_a_side_file_that_does_not_fit_is_refused(job: ReportJob) -> None:
    first = sorted(Path(job.joins["s"]).iterdir())[0]
    pq.write_table(pq.read_table(first).slice(0, 5), first)
    with pytest.raises(UserError, match=r"--join s=.*: 00000-\w+.parquet has 5 rows, and the dataset's part 600; make"):
        report(job)
