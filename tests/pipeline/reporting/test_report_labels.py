"""What a report tells of images that no class describes is what `label` counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from clipmill.pipeline import FilterJob, LabelJob, LabelSummary, Report, ReportJob, filter, label, report
from fakes import Ran


@pytest.fixture
def labelled(ran: Ran, sharp_weights: Path, tmp_path: Path) -> Any:
    """Labels the drawn scenes, of which only stars have a class, and reports on them."""

    def run(**changes: Any) -> tuple[LabelSummary, Report, str]:
        (tmp_path / "classes.txt").write_text("red star\nblue star")
        where = {"model": f"tiny={sharp_weights}", "templates": "drawing", "overwrite": True}
        job = LabelJob(str(ran.out), str(tmp_path / "labels"), str(tmp_path / "classes.txt"), **where, **changes)
        summary = label(job)
        found = report(ReportJob(str(ran.out), str(tmp_path / "r.html"), labels=job.out))
        return summary, found, " ".join((tmp_path / "r.html").read_text().split())

    return run


def test_the_background_has_a_row_of_its_own(labelled: Any) -> None:
    summary, found, page = labelled(background=("a house", "a fish"), threshold=0.6)
    numbers = found.labels
    assert (numbers.none, numbers.uncovered) == (summary.counts.none, summary.counts.uncovered)
    assert numbers.none_by_background == summary.counts.uncovered > 0
    assert "none (background)" in page
    share = f"{numbers.uncovered:,} of them ({numbers.uncovered / 108:.1%}) better than any class does."
    assert f"The background (a house, a fish) fits {share}" in page
    assert numbers.images == 108 == sum(count.images for count in numbers.most) + numbers.none


def test_general_words_are_counted_and_take_nothing_away(labelled: Any) -> None:
    summary, found, page = labelled()
    assert (found.labels.none, found.labels.none_by_background) == (0, 0)
    assert found.labels.uncovered == summary.counts.uncovered > 0
    assert f"General words fit {summary.counts.uncovered:,} of them" in page and "none (" not in page


def test_what_is_too_unsure_is_none_for_that(labelled: Any) -> None:
    summary, found, page = labelled(threshold=0.9999)
    assert found.labels.none == summary.counts.none > 0 and found.labels.none_by_background == 0
    assert "none (too unsure)" in page and "none (background)" not in page


def test_within_a_subset_only_its_images_count(labelled: Any, ran: Ran, tmp_path: Path) -> None:
    labelled(background=("a house",))
    filter(FilterJob(str(ran.out), str(tmp_path / "subset"), where=("row < 10",)))
    job = ReportJob(str(ran.out), str(tmp_path / "r.html"), labels=str(tmp_path / "labels"))
    found = report(ReportJob(job.dataset, job.out, labels=job.labels, within=str(tmp_path / "subset"))).labels
    parts = [pq.read_table(part) for part in (tmp_path / "labels" / "data").glob("*.parquet")]
    rows = [row for part in parts for row in part.to_pylist() if row["row"] < 10 and row["label"]]
    best, background = (np.array([row[name] for row in rows], np.float32) for name in ("probability", "background"))
    assert found is not None and found.images == len(rows)
    assert found.uncovered == (background > best * (1 - background)).sum()


def test_labels_of_before_tell_nothing_of_it(labelled: Any, ran: Ran, tmp_path: Path) -> None:
    labelled(background=("a house",))
    for part in (tmp_path / "labels" / "data").glob("*.parquet"):
        footer = {key: value for key, value in pq.read_metadata(part).metadata.items() if key != b"ARROW:schema"}
        table = pq.read_table(part).drop_columns(["background"])
        pq.write_table(table.replace_schema_metadata(footer), part)
    found = report(ReportJob(str(ran.out), str(tmp_path / "r.html"), labels=str(tmp_path / "labels"))).labels
    assert found is not None and found.uncovered is None
    assert "better than any class" not in (tmp_path / "r.html").read_text()
