"""`clipmill filter` as people and scripts see it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from clipmill.pipeline.dataset.dataset import Dataset
from console import Console, console
from made import make_dataset
from side_kit import write_side


@pytest.fixture
def clipmill(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Console:
    monkeypatch.setenv("COLUMNS", "80")
    return console(monkeypatch, capsys)


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    part = {
        "similarity": [0.1, 0.2, None, 0.4, 0.4],
        "error": [None, None, "decode: no image", None, None],
        "uid": [f"{row:032x}" for row in (5, 4, 3, 2, 1)],
    }
    make_dataset(tmp_path / "in", [part])
    return ["filter", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--where", "row > 0", "--top-fraction", "0.25"]


def test_it_shows_the_funnel(clipmill: Console, arguments: list[str], tmp_path: Path) -> None:
    ran = clipmill(*arguments, "--uids", tmp_path / "uids.npy")
    assert (ran.code, ran.err) == (0, "")
    assert [line.split("  ", 2)[1] for line in ran.out.splitlines()[:4]] == [
        "rows",
        "failed to embed",
        "not row > 0",
        "similarity not in the top 25%, below 0.4",
    ]
    assert "kept" in ran.out and "40.0%" in ran.out
    assert ran.out.endswith(f"uids in {tmp_path / 'uids.npy'}\nin {tmp_path / 'out'}\n")
    assert np.load(tmp_path / "uids.npy").tolist() == [(0, 1), (0, 2)]
    assert clipmill(*arguments).out.startswith("nothing to do: this subset is finished already\n")


def test_as_json_it_is_one_object(clipmill: Console, arguments: list[str]) -> None:
    found = json.loads(clipmill(*arguments, "--json").out)
    assert found["funnel"]["rows"] == 5 and found["funnel"]["kept"] == 2
    assert found["funnel"]["dropped"]["not row > 0"] == 1


def test_what_is_wrong_is_one_line(clipmill: Console, arguments: list[str]) -> None:
    ran = clipmill(*arguments, "--where", "rows > 1")
    assert ran.code == 2
    assert ran.complaint().startswith('--where rows > 1: Binder Error: Referenced column "rows" not found')


def test_side_tables_are_joined_by_options(clipmill: Console, arguments: list[str], tmp_path: Path) -> None:
    scores = write_side(
        tmp_path / "s", Dataset.open(str(tmp_path / "in")), lambda own: {"score": [float(-row) for row in range(5)]}
    )
    joined = (*arguments[:4], "--join", f"s={scores}", "--where", "s.score < -1", "--json")
    assert json.loads(clipmill(*joined).out)["funnel"]["kept"] == 2
    for option, complaint in [
        (f"s={scores}x", f"--join s={scores}x: the alias is taken by --join s={scores}; choose another"),
        ("scores", "--join scores: must be ALIAS=FOLDER, such as scores=scores"),
        ("1=x", "--join 1=x: '1' cannot be an alias"),
        ("t=nowhere", "--join t=nowhere: 1 of the dataset's 1 parts have no file in it"),
    ]:
        ran = clipmill(*joined, "--join", option)
        assert ran.code == 2 and ran.complaint().startswith(complaint)
