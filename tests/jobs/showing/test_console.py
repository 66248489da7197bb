"""Captions, paths and reasons are printed as they are."""

from __future__ import annotations

import pytest
from clipmill.jobs.showing.console import err, out


@pytest.mark.parametrize("text", ["a [bold]brush[/] and [red]", ":dog: on a :mat:", "x" * 500, "[/nothing]"])
def test_what_looks_like_markup_is_text(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    out.print(text)
    err.print(text)
    assert capsys.readouterr() == (f"{text}\n", f"{text}\n")
