"""Help under headings, what the Tab key offers, and `clipmill models` on a narrow terminal."""

from __future__ import annotations

import os
import re
import subprocess
from importlib import import_module

import pytest
from clipmill.clipmodel.config import VARIANTS
from clipmill.clipmodel.sources import releases
from clipmill.jobs.cli.helping import first_sentence
from console import EXECUTABLE, Console, console
from rich.console import Console as Terminal


@pytest.fixture
def clipmill(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Console:
    monkeypatch.setenv("COLUMNS", "80")
    return console(monkeypatch, capsys)


def test_many_options_are_under_headings(clipmill: Console) -> None:
    text = clipmill("embed", "--help").out
    headings = re.findall(r"^([A-Z][a-z ]+):$", text, re.MULTILINE)
    about = ["Input", "Output", "Model", "Cluster and storage", "Failures and limits", "Costs"]
    assert headings == ["Arguments", *about, "Options"]
    assert re.findall(r"^  (-\S+)", text[text.index("\nOptions:") :], re.MULTILINE) == ["--json", "--debug", "-h,"]
    assert "Cluster" not in clipmill("status", "--help").out


WITH_H = [f"ViT-H-14{rest}" for rest in ("", "-quickgelu", "-378-quickgelu", "-worldwide")]
WITH_H += [f"ViT-H-14-worldwide{rest}" for rest in ("-quickgelu", "-378")]


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("clipmill em", ["embed"]),
        ("clipmill embed x --max-failed-sa", ["--max-failed-samples"]),
        ("clipmill embed x --decode cl", ["close"]),
        ("clipmill embed x --model ViT-H", WITH_H),
        ("clipmill label x --templates ph", ["photo"]),
    ],
)
def test_the_tab_key_completes_commands_options_and_values(words: str, offered: list[str]) -> None:
    asked = {"_CLIPMILL_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    ran = subprocess.run([EXECUTABLE], env=os.environ | asked, capture_output=True, text=True, check=True)
    assert (ran.stdout.split(), ran.stderr) == (offered, "")


def test_the_first_sentence_of_several_lines_is_one_line() -> None:
    assert first_sentence("Show it: all\n    of it. Then more.") == "Show it: all of it."
    assert first_sentence("One alone.") == "One alone."


@pytest.mark.parametrize("arguments", [[], ["ViT-B-32"]])
def test_models_fit_80_columns_and_names_are_whole(
    arguments: list[str], clipmill: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal(force_terminal=True, width=80, highlight=False, soft_wrap=True, markup=False, no_color=True)
    monkeypatch.setattr(import_module("clipmill.jobs.cli.models"), "out", terminal)
    with terminal.capture() as captured:
        assert clipmill("models", *arguments).code == 0
    lines = captured.get().splitlines()
    assert max(map(len, lines)) <= 80
    names = {word.strip(",") for line in lines for word in line.replace("ViT-B-32=", "").split()}
    assert {tag for name in arguments or VARIANTS for tag in releases(name)} <= names
