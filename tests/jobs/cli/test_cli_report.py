"""`clipmill report` as people and scripts see it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from console import Console, console
from made import make_dataset


@pytest.fixture
def clipmill(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Console:
    return console(monkeypatch, capsys)


@pytest.fixture
def dataset(tmp_path: Path) -> str:
    rows = {"similarity": [0.1, 0.2, 0.3, None], "error": [None, None, None, "decode: not an image"]}
    return make_dataset(tmp_path / "out", [rows]).url


def test_it_tells_what_is_on_the_page_and_where(clipmill: Console, dataset: str, tmp_path: Path) -> None:
    ran = clipmill("report", dataset, "-o", tmp_path / "report.html")
    assert (ran.code, ran.err) == (0, "")
    assert "4 = 3 embedded + 1 failed" in ran.out
    assert "the top 30%: similarity >= 0.3000, 1 rows" in ran.out
    assert "recipes     no_filter 75.0%, basic 0.0%, clip_score 25.0% would stay" in ran.out
    assert "duplicates  0 rows in 0 groups among 0 images" in ran.out
    assert "0, 3 could not be fetched" in ran.out
    assert ran.out.endswith(f"in {tmp_path / 'report.html'}\n")
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")


def test_as_json_it_is_the_numbers(clipmill: Console, dataset: str, tmp_path: Path) -> None:
    found = json.loads(clipmill("report", dataset, "-o", tmp_path / "report.html", "--json").out)
    assert found["numbers"]["counts"]["rows"] == found["status"]["dataset"]["rows"] == 4
    assert found["numbers"]["similarities"][0]["scored"] == 3
    assert {of["recipe"]: of["kept"] for of in found["recipes"]["counts"]}["clip_score"] == 1
    assert found["duplicates"]["groups"] == 0


def test_another_file_is_kept(clipmill: Console, dataset: str, tmp_path: Path) -> None:
    (tmp_path / "notes.html").write_text("my notes")
    ran = clipmill("report", dataset, "-o", tmp_path / "notes.html")
    assert (ran.code, "`clipmill report` did not write it" in ran.complaint()) == (2, True)
    assert (tmp_path / "notes.html").read_text() == "my notes"
    assert clipmill("report", dataset, "-o", tmp_path / "notes.html", "--overwrite").code == 0


def test_what_is_wrong_is_one_line(clipmill: Console, dataset: str, tmp_path: Path) -> None:
    ran = clipmill("report", tmp_path, "-o", tmp_path / "report.html")
    assert (ran.code, "is not a clipmill dataset" in ran.complaint()) == (2, True)
    ran = clipmill("report", dataset, "-o", tmp_path)
    assert (ran.code, "is a folder; name a file" in ran.complaint()) == (2, True)
