"""`clipmill reshard` as people and scripts see it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import ray
from console import Console, console
from embedded import embed_here
from fakes import write_pairs


@pytest.fixture
def clipmill(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Console:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    return console(monkeypatch, capsys)


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    """Seven pairs."""
    write_pairs(tmp_path / "a.tar", 7)
    embed_here([tmp_path / "a.tar"], tmp_path / "out")
    return ["reshard", str(tmp_path / "out"), "-o", str(tmp_path / "new"), "--samples-per-shard", "3"]


def test_it_tells_what_was_written_and_read(clipmill: Console, arguments: list[str], tmp_path: Path) -> None:
    ran = clipmill(*arguments)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("wrote 3 of 3 shards, ")
    assert "7 samples in 3 shards" in ran.out
    assert ran.out.endswith(f"in {tmp_path / 'new'}\n")
    assert clipmill(*arguments).out.startswith("nothing to do: all 3 shards are written already\n")


def test_as_json_it_is_one_object(clipmill: Console, arguments: list[str]) -> None:
    found = json.loads(clipmill(*arguments, "--json").out)
    assert (found["samples"], found["shards"], found["shards_done_before"]) == (7, 3, 0)


def test_what_is_wrong_is_one_line(clipmill: Console, arguments: list[str], tmp_path: Path) -> None:
    ran = clipmill("reshard", tmp_path, "-o", tmp_path / "x")
    assert ran.code == 2 and "is not a clipmill dataset" in ran.complaint()
    ran = clipmill(*arguments, "--join", "s=nowhere", "--column", "s.score")
    assert ran.code == 2 and ran.complaint().startswith("--join s=nowhere: 1 of the dataset's 1 parts have no file in")
    (tmp_path / "a.tar").unlink()
    ran = clipmill(*arguments)
    assert ran.code == 2 and f"{tmp_path / 'a.tar'} is gone, so its samples cannot be read again" in ran.complaint()
