"""Jobs and results as people see them in Python and in notebooks."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import clipmill
import pytest
from clipmill.pipeline import EmbedJob, LabelJob
from clipmill.pipeline.job.readable import Result
from clipmill.pipeline.records import Shard, ShardStats
from clipmill.pipeline.running import notebook
from clipmill.pipeline.running.events import DoneElsewhere, Planned, Rows, ShardDone
from clipmill.pipeline.running.stages import Stage
from clipmill.pipeline.steps import STEPS
from fakes import Ran


def test_the_version_is_the_distributions() -> None:
    assert clipmill.__version__ == metadata.version("clipmill")


def test_a_job_shows_what_differs_from_the_defaults_and_no_secret() -> None:
    job = EmbedJob(["s/*.tar"], "out", "tiny", workers=2, storage_options={"secret": "xyzzy", "anon": True})
    shown = repr(job)
    assert shown.startswith("EmbedJob(inputs=['s/*.tar'], out='out', model='tiny', workers=2, storage_options=")
    assert "xyzzy" not in shown and "batch_size" not in shown


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_a_signature_has_plain_types_and_the_defaults(step: Any) -> None:
    signature = inspect.signature(step.job)
    assert not any(word in str(signature) for word in ("Annotated", "Doc(", "Flag(", "MISSING", "<factory>"))
    assert list(signature.parameters) == list(inspect.signature(step.job.__init__).parameters)[1:]


def test_signatures_bind_as_the_class_does() -> None:
    bound = inspect.signature(LabelJob).bind("data", "out", "classes.txt", top_k=1)
    assert LabelJob(*bound.args, **bound.kwargs) == LabelJob("data", "out", "classes.txt", top_k=1)


def test_a_summary_says_how_the_run_ended(ran: Ran) -> None:
    assert "120 rows = 108 embedded + 12 failed, " in repr(ran.summary)
    table = ran.summary._repr_html_()
    assert table.startswith("<table>") and "<th style='text-align:left'>planned shards</th>" in table


@dataclass(frozen=True)
class Hostile(Result):
    def as_json(self) -> dict[str, Any]:
        return {"<b>": "<script>", "rows": 12345, "nothing": None, "inner": {"share": 0.25, "many": list(range(99))}}


def test_tables_hold_text_and_no_markup_of_others() -> None:
    table = Hostile()._repr_html_()
    assert "<script>" not in table and "&lt;script&gt;" in table and "&lt;b&gt;" in table
    assert "12,345" in table and "nothing" not in table and "inner.share" in table and "… (99)" in table


def test_bars_are_shown_in_notebooks_alone(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    bars = notebook.StageBars()
    bars(Stage("labelling", "parts", 0, 2))
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(notebook, "is_notebook", lambda: True)
    for _ in range(2):  # the same step again
        for done in range(3):
            bars(Stage("labelling", "parts", done, 2))
    said = capsys.readouterr()
    assert (said.out + said.err).count("2/2") == 2


def test_a_notebooks_bar_of_embed_ends_with_all_rows(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(notebook, "is_notebook", lambda: True)
    first, second = Shard("0.tar", 1), Shard("1.tar", 1)
    bar = notebook.EmbedBar()
    for event in (
        Planned(3, 0, "tiny", "fp32", 3),
        Rows(5, 1),  # the workers are not asked for the rest
        ShardDone(first, ShardStats(first.url, 10, 8, Counter({"decode": 2}))),
        DoneElsewhere(1),
        ShardDone(second, ShardStats(second.url, 10, 10)),
    ):
        bar(event)
    last = capsys.readouterr().err.rstrip().rpartition("\r")[2]
    assert "3/3" in last and "20 rows, 2 failed" in last


def test_a_kernel_is_a_notebook_and_a_shell_is_not() -> None:
    script = (
        "import sys, types; from clipmill.pipeline.running.notebook import is_notebook; print(is_notebook());"
        "shell = types.SimpleNamespace(); sys.modules['IPython'] = types.SimpleNamespace(get_ipython=lambda: shell);"
        "print(is_notebook()); shell.kernel = 1; print(is_notebook())"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["False", "False", "True"]
