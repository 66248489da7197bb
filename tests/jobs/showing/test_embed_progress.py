"""What is said on stderr during a run where there is no terminal: lines, and none of them empty."""

from __future__ import annotations

import io

import pytest
from clipmill.jobs.showing import progress as showing
from clipmill.pipeline.running.events import Planned, Stopping
from rich.console import Console


def said(monkeypatch: pytest.MonkeyPatch, stopping: Stopping) -> list[str]:
    file = io.StringIO()
    monkeypatch.setattr(showing, "err", Console(file=file, soft_wrap=True))
    with showing.EmbedProgress() as progress:
        progress(Planned(8, 0, "tiny", "fp32", 8, 0))
        progress(stopping)
    return file.getvalue().splitlines()


def test_an_interrupt_before_any_shard_is_begun_adds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert said(monkeypatch, Stopping(8)) == ["8 shards; model tiny, fp32"]


def test_an_interrupt_tells_what_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert said(monkeypatch, Stopping(7, 1))[1:] == ["finishing 1 shard in hand; Ctrl-C again stops at once"]
