"""A report of a dataset that has grown equals a fresh one, and reads the narrow table however that is."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clipmill.pipeline import ForgetJob, Report, ReportJob, forget, report
from clipmill.pipeline.dataset.layout import REPORT
from clipmill.pipeline.reporting import frame, summing
from clipmill.pipeline.running import narrow_table
from clipmill.pipeline.running.stages import Stage
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


def counted(job: ReportJob) -> tuple[dict[str, Any], int]:
    """The figures of a report, and how many parts were looked at for it."""
    told: list[Stage] = []
    made = report(job, told.append)
    return figures(made), max((stage.total for stage in told if stage.name == "counting"), default=0)


def kept(dataset: str) -> list[Path]:
    return sorted((Path(dataset) / REPORT).glob("*.parquet"))


def test_a_grown_report_is_a_fresh_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    every = pairs()
    fresh = ReportJob(make_dataset(tmp_path / "fresh", every).url, str(tmp_path / "fresh.html"))
    expected = counted(fresh)
    small_tables(monkeypatch)
    job = ReportJob(str(tmp_path / "made"), str(tmp_path / "grown.html"))
    make_dataset(tmp_path / "made", [*every[:3], {"similarity": [0.5] * 7}, *every[4:10]])  # one is made again later
    report(job)
    before = tables(job.dataset)
    make_dataset(tmp_path / "made", every)
    grown, _ = counted(job)
    assert before & tables(job.dataset) and tables(job.dataset) - before
    assert expected == (grown, 12) and grown["numbers"]["counts"]["failed"] > 0
    assert grown["grouped"][0]["groups"] and grown["duplicates"]["largest"]
    assert counted(job) == (grown, 0)
    (tmp_path / "keys.txt").write_text("000020003\n000020004\n")
    keys = str(tmp_path / "keys.txt")
    assert [forget(ForgetJob(of.dataset, keys=keys)).new for of in (fresh, job)] == [2, 2]
    assert counted(fresh)[0] == counted(job)[0] != grown


def test_only_what_is_new_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    every = pairs()
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr(narrow_table, "_LEAST", 40_000)
    monkeypatch.setattr(frame, "_SLACK", 10)  # of so few rows the thresholds move far
    job = ReportJob(make_dataset(tmp_path / "made", every[:11]).url, str(tmp_path / "grown.html"))
    assert counted(job)[1] == 11
    first = set(kept(job.dataset))
    make_dataset(tmp_path / "made", every)
    found, parts = counted(job)
    assert parts == 1 and first < set(kept(job.dataset))
    changed = [*every[:5], {**every[5], "similarity": [0.3] * len(every[5]["caption"])}, *every[6:]]
    make_dataset(tmp_path / "made", changed)
    again, parts = counted(job)
    assert 0 < parts <= 6 and again != found
    whole = ReportJob(make_dataset(tmp_path / "whole", changed).url, job.out)
    assert counted(whole) == (again, 12)


def test_what_earlier_reports_kept_may_be_lost(tmp_path: Path) -> None:
    job = ReportJob(make_dataset(tmp_path / "made", pairs()).url, str(tmp_path / "report.html"))
    expected = counted(job)
    (file,) = kept(job.dataset)
    content = file.read_bytes()
    file.write_bytes(content[:400] + bytes([content[400] ^ 1]) + content[401:])
    assert counted(job) == expected and counted(job) == (expected[0], 0)
    file.unlink()
    assert counted(job) == expected and kept(job.dataset) == [file]


def test_many_small_sums_become_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summing, "_MANY", 3)
    monkeypatch.setattr(summing, "_SMALL", 2)
    monkeypatch.setattr(frame, "_SLACK", 1)  # thresholds may be anywhere
    every = pairs()
    job = ReportJob(str(tmp_path / "made"), str(tmp_path / "report.html"))
    for parts in (8, 9, 10, 12):
        make_dataset(tmp_path / "made", every[:parts])
        found, _ = counted(job)
    assert len(kept(job.dataset)) == 2
    whole = ReportJob(make_dataset(tmp_path / "whole", every).url, job.out)
    assert counted(whole)[0] == found


def test_a_damaged_narrow_table_is_read_around(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = ReportJob(make_dataset(tmp_path / "made", pairs()).url, str(tmp_path / "report.html"))
    expected = figures(report(job))
    small_tables(monkeypatch)
    report(job)
    before, broken = tables(job.dataset), garble(job.dataset)
    for file in kept(job.dataset):
        file.unlink()
    assert figures(report(job)) == expected and tables(job.dataset) == before - {broken}
    garble(job.dataset)
    for file in kept(job.dataset):
        file.unlink()
    against = report(ReportJob(job.dataset, job.out, against=job.dataset))
    assert against.against is not None and asdict(against.against.numbers) == expected["numbers"]
