"""The rows that a report shows are read once: the next report finds them."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from clipmill.pipeline import ForgetJob, ReportJob, forget, report
from clipmill.pipeline.dataset.dataset import Dataset
from clipmill.pipeline.dataset.layout import REPORT
from clipmill.pipeline.reporting import shown_rows
from clipmill.pipeline.reporting.shown_rows import Place, Row, ShownRows, rows_at
from filter_kit import many
from made import make_dataset

PLACES: list[Place] = [("/made/00000.tar", 3), ("/made/00001.tar", 0), ("/made/00001.tar", 50), ("/made/00002.tar", 9)]


def made(folder: Path, parts: list[dict[str, Any]] | None = None) -> Dataset:
    return make_dataset(folder / "in", many(300, 3) if parts is None else parts)


def asked(dataset: Dataset, places: Iterable[Place] = PLACES) -> dict[Place, Row]:
    rows = ShownRows.of(dataset)
    there = rows.at(places)
    rows.keep()
    return there


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The parts that are read."""
    take, parts = Dataset.take, list[str]()

    def taken(dataset: Dataset, part: str, *of: Any) -> Any:
        parts.append(part)
        return take(dataset, part, *of)

    monkeypatch.setattr(Dataset, "take", taken)
    return parts


def test_what_was_shown_is_not_read_again(tmp_path: Path, read: list[str]) -> None:
    dataset = made(tmp_path)
    expected = {place: row for place, (row, _) in rows_at(dataset, PLACES).items()}
    assert asked(dataset) == expected and len(expected) == 4
    read.clear()
    assert asked(dataset) == expected and asked(dataset, PLACES[:1]) == {PLACES[0]: expected[PLACES[0]]}
    assert read == []
    more = asked(dataset, [PLACES[0], ("/made/00002.tar", 10)])
    assert more[PLACES[0]] == expected[PLACES[0]] and read == [dataset.parts[2]]
    assert asked(dataset, [("/made/00002.tar", 10), *PLACES]) == expected | more and len(read) == 1


def test_places_in_no_part_are_left_out(tmp_path: Path) -> None:
    dataset = made(tmp_path)
    for _ in range(2):
        assert asked(dataset, [("/made/00009.tar", 0)]) == {}
        assert asked(dataset, [("/made/00009.tar", 0), PLACES[1]]).keys() == {PLACES[1]}


def test_rows_of_a_part_that_was_made_anew_are_read_again(tmp_path: Path, read: list[str]) -> None:
    parts = many(300, 3)
    before = asked(made(tmp_path, parts))
    parts[1]["caption"] = [f"changed {row}" for row in range(len(parts[1]["caption"]))]
    dataset = made(tmp_path, parts)
    read.clear()
    after = asked(dataset)
    assert read == [dataset.parts[1]]
    assert {place for place in PLACES if before[place] != after[place]} == set(PLACES[1:3])
    assert after[PLACES[2]].caption == "changed 50"


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"version": "0", "rows": []}', b"\xff\xfe", b'{"rows": 3}'])
def test_what_was_kept_may_be_lost(content: bytes, tmp_path: Path) -> None:
    dataset = made(tmp_path)
    expected = asked(dataset)
    (file,) = (tmp_path / "in" / REPORT).iterdir()
    file.write_bytes(content)
    assert asked(dataset) == expected == asked(dataset)


def test_as_many_are_kept_as_a_report_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: list[str]) -> None:
    monkeypatch.setattr(shown_rows, "_MOST", 3)
    dataset = made(tmp_path)
    asked(dataset, PLACES[:3])
    asked(dataset, PLACES[3:])
    read.clear()
    asked(dataset, PLACES[3:])
    assert read == []  # those of the last report come first
    asked(dataset, PLACES[:3])
    assert read


def test_where_nothing_can_be_written_nothing_is_kept(tmp_path: Path) -> None:
    dataset = made(tmp_path)
    (tmp_path / "in" / REPORT).write_text("a file where the folder would be")
    assert asked(dataset) == asked(dataset) and len(asked(dataset)) == 4


def test_a_grown_report_shows_the_rows_of_a_fresh_one(tmp_path: Path) -> None:
    parts, pages = many(400, 8)[:-1], list[str]()
    for count in (6, 8):
        dataset = make_dataset(tmp_path / "in", parts[:count])
        report(ReportJob(dataset.url, str(tmp_path / "page.html")))
        pages.append((tmp_path / "page.html").read_text())
    shutil.rmtree(tmp_path / "in")
    report(ReportJob(make_dataset(tmp_path / "in", parts).url, str(tmp_path / "page.html")))
    pages.append((tmp_path / "page.html").read_text())
    assert pages[0] != pages[1] == pages[2] and pages[2].count("number ") > 20


def test_what_is_forgotten_is_not_shown(tmp_path: Path) -> None:
    dataset = made(tmp_path)
    asked(dataset)
    (tmp_path / "keys.txt").write_text("000000003\n")
    forget(ForgetJob(dataset.url, keys=str(tmp_path / "keys.txt")))
    assert asked(Dataset.open(dataset.url))[PLACES[0]].caption is None
