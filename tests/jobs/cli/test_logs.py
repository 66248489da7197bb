"""What stderr says where logs are wanted: JSON and nothing else, and never nothing for long."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from clipmill.jobs.showing.log import EventLines
from clipmill.pipeline.running.events import Planned, Rows, SoFar
from console import started
from fakes import Drawn


def events(text: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in text.splitlines()]
    assert all({"time", "event"} <= line.keys() for line in lines)
    return lines


def test_every_line_of_a_run_is_json(drawn: Drawn, tmp_path: Path) -> None:
    ran = started("--log", "json", "embed", drawn.folder, "-o", tmp_path / "out", "-m", "tiny", "--workers", "1")
    assert ran.code == 0, ran.err
    names = [event["event"] for event in events(ran.err)]
    assert names[0] == "starting" and names.count("shard done") == 3
    assert json.loads(started("--log", "json", "status", tmp_path / "out", "--json").out)["complete"]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["embed", "none.tar", "-o", "out", "-m", "tiny"], 2), (["embed"], 2), (["filter", "none", "-o", "out"], 2)],
)
def test_so_is_what_is_wrong(arguments: list[str], code: int) -> None:
    ran = started("--log", "json", *arguments)
    assert (ran.code, ran.out) == (code, "")
    (line,) = events(ran.err)
    assert line["event"] == "error" and line["text"] and not line["text"].startswith("clipmill")


def test_a_cluster_that_does_not_answer_is_one_line_of_json(drawn: Drawn, tmp_path: Path) -> None:
    nobody = ("--address", "127.0.0.1:1")
    ran = started("--log", "json", "embed", drawn.folder, "-o", tmp_path / "out", "-m", "tiny", *nobody)
    assert ran.code == 1
    *before, last = events(ran.err)
    assert "no Ray cluster answers at 127.0.0.1:1" in last["text"] and {e["event"] for e in before} == {"starting"}


def test_a_silent_run_says_how_far_it_is() -> None:
    told: list[Any] = []
    with EventLines(told.append, silence=0.1) as lines:
        lines(Planned(8, 0, "tiny", "fp32", 8))
        lines(Rows(5, 1, 2))
        lines(Rows(7, 0, 3))
        time.sleep(0.5)
    assert told[0].name == "planned" and len(told) >= 3
    assert told[1] == told[-1] == SoFar(0, 12, 1, 3)
