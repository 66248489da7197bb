"""A bar's line fits its terminal: totals and time left are always there, other fields where there is room."""

from __future__ import annotations

import io
import re

import pytest
from clipmill.jobs.showing import progress as showing
from clipmill.jobs.showing.fitting import Fields, fitted
from clipmill.pipeline.records import Shard, ShardStats
from clipmill.pipeline.running.events import DoneElsewhere, Event, Planned, Rows, ShardDone, WorkersStarted
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

FIELDS = Fields("12/48 shards", ["3 failed", "1,234/s", "5,678 samples", "0:01:02"], "left 0:03:04")


@given(st.integers(0, 200))
def test_what_does_not_fit_is_left_out_from_the_end(width: int) -> None:
    line = fitted(FIELDS, width)
    assert line.startswith(FIELDS.totals) and line.endswith(FIELDS.left)
    assert len(line) <= max(width, len("12/48 shards · left 0:03:04"))
    kept = line.split(" · ")[1:-1]
    assert kept == list(FIELDS.more[: len(kept)])
    assert len(kept) == len(FIELDS.more) or len(f"{line} · {FIELDS.more[len(kept)]}") > width


@pytest.mark.parametrize("columns", [60, 80, 150])
def test_the_bar_of_a_run_is_one_line(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    events = [
        Planned(12_345, 0, "tiny", "fp32", 12_345, 0),
        WorkersStarted(8),
        Rows(1_234_567, 8_910),
        DoneElsewhere(45),
    ]
    last = last_line(events, columns, monkeypatch)
    assert "45/12,345 shards" in last and "left " in last and len(last) <= columns
    assert ("1,243,477 samples" in last) == (columns == 150)


def test_the_last_line_of_a_run_counts_every_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those that no worker was asked for again, and those of a shard that was tried twice, once."""
    done = [ShardDone(Shard(f"{n}.tar", 1), ShardStats(f"{n}.tar", rows=50, embedded=48)) for n in range(2)]
    events = [Planned(2, 0, "tiny", "fp32", 2, 0), WorkersStarted(1), Rows(40, 0), done[0], Rows(30, 1), done[1]]
    assert "2/2 shards · 4 failed" in (last := last_line(events, 150, monkeypatch)) and "100 samples" in last


def last_line(events: list[Event], columns: int, monkeypatch: pytest.MonkeyPatch) -> str:
    file = io.StringIO()
    monkeypatch.setattr(showing, "err", Console(file=file, force_terminal=True, width=columns, color_system=None))
    with showing.EmbedProgress() as progress:
        for event in events:
            progress(event)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", file.getvalue()).replace("\r", "\n")
    return [line.rstrip() for line in text.splitlines() if "shards ·" in line][-1]
