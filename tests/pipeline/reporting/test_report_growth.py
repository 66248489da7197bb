"""A report of a dataset that has grown equals a fresh one, and reads the narrow table however that is."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clipmill.pipeline import Report, ReportJob, report
from filter_kit import many
from made import make_dataset
from narrow_kit import garble, small_tables, tables


def pairs(parts: int = 12) -> list[dict[str, Any]]:
    made = many(parts * 80, parts)[:-1]
    for number, part in enumerate(made):
        count = len(part["caption"])
        part["height"] = 100 + np.arange(count) % 300
        part["caption_tokens"] = [None if row % 9 == 0 else 3 + row % 20 for row in range(count)]
        part["url"] = [f"https://www.example{(row + number) % 30}.com/{row}.jpg" for row in range(count)]
    return made


def figures(made: Report) -> dict[str, Any]:
    """All that does not say where it is or how long it took."""
    told = asdict(made)
    return {name: told[name] for name in told.keys() - {"out", "dataset", "status"}}


def same(one: Any, other: Any) -> bool:
    """Means are added up in another order."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other or (isinstance(one, float) and one == pytest.approx(other, rel=1e-12)))


def test_a_grown_report_is_a_fresh_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    every = pairs()
    of_parts = report(ReportJob(make_dataset(tmp_path / "fresh", every).url, str(tmp_path / "fresh.html")))
    small_tables(monkeypatch)
    job = ReportJob(str(tmp_path / "made"), str(tmp_path / "grown.html"))
    make_dataset(tmp_path / "made", [*every[:3], {"similarity": [0.5] * 7}, *every[4:10]])  # one is made again later
    report(job)
    before = tables(job.dataset)
    make_dataset(tmp_path / "made", every)
    grown = report(job)
    assert before & tables(job.dataset) and tables(job.dataset) - before
    assert same(figures(grown), figures(of_parts)) and grown.numbers.counts.failed > 0
    assert grown.grouped[0].groups and len(grown.duplicates.largest if grown.duplicates else ()) > 0


def test_a_damaged_narrow_table_is_read_around(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = ReportJob(make_dataset(tmp_path / "made", pairs()).url, str(tmp_path / "report.html"))
    expected = report(job)
    small_tables(monkeypatch)
    report(job)
    before, broken = tables(job.dataset), garble(job.dataset)
    again = report(job)
    assert same(figures(again), figures(expected)) and tables(job.dataset) == before - {broken}
    garble(job.dataset)
    against = report(ReportJob(job.dataset, job.out, against=job.dataset))
    assert against.against is not None and same(asdict(against.against.numbers), asdict(expected.numbers))
