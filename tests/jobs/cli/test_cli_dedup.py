"""`clipmill dedup` as people and scripts see it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import ray
from console import Console, console
from made import make_dataset, unit_vectors


@pytest.fixture
def clipmill(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Console:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    return console(monkeypatch, capsys)


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    """Of six rows one has failed; two are copies, three are near each other."""
    vectors = unit_vectors(3, 3)[[0, 0, 1, 1, 1, 2]]
    error = [None] * 5 + ["decode: bad"]
    make_dataset(tmp_path / "in", [{"sha256": list("aabcde"), "image_embedding": vectors, "error": error}])
    return ["dedup", str(tmp_path / "in"), "-o", str(tmp_path / "out")]


def test_it_tells_what_went_and_why(clipmill: Console, arguments: list[str], tmp_path: Path) -> None:
    ran = clipmill(*arguments)
    assert (ran.code, ran.err) == (0, "")
    said = " ".join(ran.out.split())
    assert "rows 6 failed -1 exact duplicate -1 near duplicate -2 kept 2 33.3%" in said
    assert "groups of duplicates 2: 1 of 2, 1 of 3" in said
    assert ran.out.endswith(f"in {tmp_path / 'out'}\n")
    assert clipmill(*arguments).out.startswith("nothing to do: this subset is finished already\n")


def test_as_json_it_is_one_object(clipmill: Console, arguments: list[str]) -> None:
    found = json.loads(clipmill(*arguments, "--json").out)
    assert found["funnel"]["dropped"] == {"failed": 1, "exact duplicate": 1, "near duplicate": 2}
    assert found["groups"] == {"2": 1, "3": 1}


def test_what_is_wrong_is_one_line(clipmill: Console, arguments: list[str], tmp_path: Path) -> None:
    ran = clipmill(*arguments, "--threshold", "7")
    assert (ran.code, ran.complaint()) == (2, "--threshold 7: must be a cosine, from -1 to 1")
    ran = clipmill("dedup", tmp_path, "-o", tmp_path / "x")
    assert ran.code == 2 and "is not a clipmill dataset" in ran.complaint()
