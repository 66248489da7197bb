"""`clipmill score` as people and scripts see it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from console import Console, console
from made import make_dataset, unit_vectors
from torch import nn


@pytest.fixture
def clipmill(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Console:
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.chdir(tmp_path)
    make_dataset(tmp_path / "in", [{"image_embedding": unit_vectors(1, 3)}, {"error": ["decode: no image"]}])
    torch.save(nn.Linear(4, 1).state_dict(), "head.pt")
    return console(monkeypatch, capsys)


def test_it_tells_what_was_scored_with_what(clipmill: Console) -> None:
    command = ("score", "in", "-o", "scores", "--head", "quality=head.pt", "--activation", "quality=none+sigmoid")
    ran = clipmill(*command)
    assert (ran.code, ran.err) == (0, "")
    assert "scores  4 rows = 3 scored + 1 without an embedding\nquality  head.pt of sha256 " in ran.out
    assert ", 4-1, sigmoid at the end\nin " in ran.out
    assert clipmill(*command).out.startswith("nothing to do: all 2 parts are scored already\n")
    found = json.loads(clipmill(*command, "--json").out)
    assert (found["columns"], found["counts"]) == (["quality"], {"rows": 4, "scored": 3, "undefined": 0})


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--head", "a=laion-nsfw-l14"), "reads embeddings of ViT-L/14 (openai), but "),
        (("--head", "a=laion-nsfw"), "no head is called 'laion-nsfw' and there is no such file: try laion-nsfw-"),
        (("--function", "json:nothing"), "--function json:nothing: json has no function nothing"),
        ((), "nothing to score with: give --head NAME=WEIGHTS, --prompt NAME=TEXT or --function MODULE"),
    ],
)
def test_what_is_wrong_is_one_line(options: Any, complaint: str, clipmill: Console) -> None:
    ran = clipmill("score", "in", "-o", "scores", *options)
    assert ran.code == 2 and complaint in ran.complaint()


def test_debug_shows_where_a_function_failed(clipmill: Console) -> None:
    Path("failing_scores.py").write_text("def score(x):\n    return x.nothing_of_the_kind\n")
    ran = clipmill("score", "in", "-o", "scores", "--function", "failing_scores:score", "--debug")
    assert ran.code == 2 and "return x.nothing_of_the_kind" in ran.err
