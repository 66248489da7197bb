"""The command line: help that helps, one line and the right exit code for what is wrong, JSON for machines."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import typer
from clipmill.clipmodel.config import VARIANTS
from clipmill.jobs.cli import app, main
from clipmill.pipeline.running import embed as pipeline_run
from clipmill.pipeline.steps import STEPS
from console import EXECUTABLE, Console, Ran, console, started
from fakes import Drawn, write_pairs

OTHERS = ("demo", "status", "models", "run", "submit", "cancel", "render", "schema")  # besides the steps
COMMANDS = (*(step.name for step in STEPS), *OTHERS)
DECLARED: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]


@pytest.fixture
def clipmill(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Console:
    monkeypatch.setenv("COLUMNS", "80")
    return console(monkeypatch, capsys)


@pytest.fixture
def no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever connects to Ray fails the test, whether a cluster is there or not."""

    def connected(*_: object) -> Iterator[None]:
        raise AssertionError("Ray was asked for")

    monkeypatch.setattr(pipeline_run, "connected", connected)


# --- help ----------------------------------------------------------------------------------------------------------


def test_the_commands_are_those_that_are_tested_here() -> None:
    assert sorted(DECLARED) == sorted(COMMANDS)


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], []])
def test_the_help_lists_every_command(arguments: list[str], clipmill: Console) -> None:
    ran = clipmill(*arguments)
    assert (ran.code, ran.err) == (0, "")
    for command in COMMANDS:
        assert f"\n  {command} " in ran.out
    assert "clipmill demo" in ran.out  # where to begin
    assert "..." not in ran.out.partition("Commands:")[2]  # sentences are whole


@pytest.mark.parametrize("command", COMMANDS)
def test_a_commands_help_has_an_example_and_names_every_option_in_full(command: str, clipmill: Console) -> None:
    ran = clipmill(command, "--help")
    assert (ran.code, ran.err) == (0, "")
    assert re.search(rf"Examples?:\n    clipmill {command}\b", ran.out)
    for parameter in DECLARED[command].params:
        if parameter.param_type_name == "option":
            assert all(name in ran.out for name in (*parameter.opts, *parameter.secondary_opts))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_and_argument_says_what_it_is(command: str) -> None:
    assert {p.name: p.help for p in DECLARED[command].params if not p.help} == {}
    assert DECLARED[command].help


def test_help_comes_at_once_without_torch_or_ray() -> None:
    script = "import sys, clipmill.jobs.cli; print(*({'torch', 'ray', 'pyarrow'} & set(sys.modules)))"
    ran = subprocess.run([EXECUTABLE.with_name("python"), "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == ""


def test_the_version_is_the_packages() -> None:
    assert started("--version") == Ran(0, metadata.version("clipmill") + "\n", "")


# --- what is wrong is one line, before any worker starts -----------------------------------------------------------


def wrong_inputs() -> list[Any]:
    embed = ["embed", "good.tar", "-o", "out", "-m", "tiny"]
    param = pytest.param
    return [
        param(["embed", "no.tar", *embed[2:]], "/no.tar: no such file or folder", id="no such file"),
        param(["embed", "no/*.tar", *embed[2:]], "/no/*.tar: matches nothing", id="no such glob"),
        param(["embed", "empty", *embed[2:]], "/empty holds no .tar shards", id="empty folder"),
        param(["embed", "text.tar", *embed[2:]], "/text.tar: not a tar", id="not a tar"),
        param(["embed", "nothing.tar", *embed[2:]], "/nothing.tar: empty file", id="empty file"),
        param(["embed", "good.tar", "-o", "text.tar", "-m", "tiny"], "file where a folder", id="file as output"),
        param(["embed", "good.tar", "-o", "text.tar/a", "-m", "tiny"], "file where a folder", id="file above"),
        param(["embed", "good.tar", "-o", "nosuch://a/b", "-m", "tiny"], "nosuch", id="no such store"),
        param([*embed[:-1], "ViT-B/33"], "unknown model 'ViT-B/33': did you mean ViT-B/32", id="no such model"),
        param([*embed[:-1], "tiny=nowhere.pt"], "nowhere.pt", id="no such weights"),
        param([*embed[:-1], "text.tar"], "text.tar", id="broken weights"),
        param([*embed, "-m", "b=tiny"], "several models need an alias each", id="model without alias"),
        param(embed[:4], "Missing option '--model'", id="no model"),
        param(embed[:2], "Missing option '--out'", id="no output"),
        param(["embed", "-o", "out", "-m", "tiny"], "Missing argument 'INPUT…'", id="no input"),
        param([*embed, "--batch-size", "-4"], "--batch-size -4: must be at least 1", id="negative batch"),
        param([*embed, "--batch-size", "0"], "--batch-size 0: must be at least 1", id="batch of none"),
        param([*embed, "--batch-size", "many"], "--batch-size", id="batch that is no number"),
        param([*embed, "--workers", "0"], "--workers 0: must be at least 1", id="no workers"),
        param([*embed, "--gpus-per-worker", "-1"], "must not be negative", id="negative GPUs"),
        param([*embed, "--max-failed-samples", "2"], "must be a share", id="share above one"),
        param([*embed, "--max-failed-shards", "-1"], "must not be negative", id="negative allowance"),
        param([*embed, "--no-images", "--no-texts"], "nothing to embed", id="neither side"),
        param([*embed, "--precision", "fp4"], "for '--precision': 'fp4' is not one of", id="no such precision"),
        param([*embed, "--column", "width:int65"], "the type must be one of string, int64", id="column type"),
        param([*embed, "--column", "similarity"], "every part has a column similarity already", id="column taken"),
        param([*embed, "--column", "a", "--column", "a:bool"], "--column: a name is given twice", id="twice"),
        param([*embed, "--storage-option", "anon"], "must be KEY=VALUE", id="storage option"),
        param([*embed, "--batchsize", "4"], "No such option: --batchsize", id="no such option"),
        param(["embetter"], "No such command 'embetter'", id="no such command"),
        param(["status", "empty"], "empty is not a clipmill dataset", id="status of nothing"),
        param(["status", "nowhere"], "nowhere is not a clipmill dataset", id="status of nowhere"),
        param(["models", "nonsense"], "unknown model 'nonsense'", id="models nonsense"),
        param(["demo", "--pairs", "3"], "--pairs", id="demo too small"),
        param(["demo", "--out", "text.tar"], "text.tar", id="demo into a file"),
        param(["demo", "--out", "full"], "holds other shards than this demo's", id="demo into others' shards"),
    ]


@pytest.mark.parametrize(("arguments", "complaint"), wrong_inputs())
@pytest.mark.usefixtures("no_workers")
def test_a_wrong_input_is_one_line_and_exit_2(
    arguments: list[str], complaint: str, clipmill: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "full" / "shards").mkdir(parents=True)
    (tmp_path / "full" / "shards" / "00000.tar").touch()
    (tmp_path / "text.tar").write_text("This is not the archive you are looking for.\n" * 40)
    (tmp_path / "nothing.tar").touch()
    write_pairs(tmp_path / "good.tar", 2)
    ran = clipmill(*arguments)
    assert complaint in (ran if arguments[0] != "demo" else replace(ran, out="")).complaint()  # a demo has a headline
    assert ran.code == 2
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").glob("data/*.parquet"))


def test_the_console_script_says_the_same(tmp_path: Path) -> None:
    ran = started("embed", tmp_path / "no.tar", "-o", tmp_path / "out", "-m", "tiny")
    assert ran.complaint().startswith(f"{tmp_path / 'no.tar'}: no such file or folder")
    assert ran.code == 2
    assert not (tmp_path / "out").exists()


def test_debug_shows_where_it_went_wrong_and_exits_alike(clipmill: Console, tmp_path: Path) -> None:
    ran = clipmill("status", tmp_path, "--debug")
    assert ran.err.startswith("Traceback") and "InputError" in ran.err
    assert ran.err.splitlines()[-1].startswith("clipmill: ")
    assert ran.code == 2


def test_what_nobody_foresaw_is_one_line_too(
    clipmill: Console, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def list_shards(*_: object) -> None:
        raise RuntimeError("out\nof cheese")

    monkeypatch.setattr(pipeline_run, "list_shards", list_shards)
    write_pairs(tmp_path / "a.tar", 1)
    ran = clipmill("embed", tmp_path / "a.tar", "-o", tmp_path / "out", "-m", "tiny")
    assert ran.complaint() == "unexpected RuntimeError: out of cheese; run again with --debug and report it"
    assert ran.code == 1
    assert "Traceback" in clipmill("embed", tmp_path / "a.tar", "-o", tmp_path / "out", "-m", "tiny", "--debug").err


# --- models --------------------------------------------------------------------------------------------------------


def test_models_lists_every_variant_with_whole_names(clipmill: Console) -> None:
    ran = clipmill("models")
    assert (ran.code, ran.err) == (0, "")
    assert {line.split()[0] for line in ran.out.splitlines() if " px " in line} == set(VARIANTS)
    assert "laion2b_s34b_b79k" in ran.out  # not cut off at 80 columns
    rows = {row["name"]: row for row in json.loads(clipmill("models", "--json").out)}
    assert list(rows) == list(VARIANTS)
    siglip = rows["ViT-B-16-SigLIP2"]
    assert (siglip["image_size"], siglip["embedding"], siglip["context_length"]) == (224, 768, 64)
    assert siglip["weights"]["webli"]["accuracy"] == 78.2
    assert rows["ViT-B/32"]["petaflop"] == pytest.approx(9.9, rel=0.1)  # 8.7 GFLOP an image and 1.2 a caption


def test_models_of_one_variant_says_where_its_weights_are(clipmill: Console) -> None:
    assert "ViT-B-32=laion2b_s34b_b79k" in clipmill("models", "ViT-B-32").out
    found = json.loads(clipmill("models", "ViT-B/32", "--json").out)
    assert len(found["openai"]["sha256"]) == 64
    assert "shipped with clipmill" in clipmill("models", "tiny").out


# --- embed and status ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def embedded(cluster: None, drawn: Drawn, sharp_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shared data set, through the command line."""
    out = tmp_path_factory.mktemp("cli") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "sys.argv", ["clipmill", "embed", str(drawn.folder), "-o", str(out), "-m", f"tiny={sharp_weights}"]
        )
        with pytest.raises(SystemExit) as ended:
            main()
    assert ended.value.code == 0
    return out


def same_again(embedded: Path, drawn: Drawn, weights: Path) -> list[Any]:
    return ["embed", drawn.folder, "-o", embedded, "-m", f"tiny={weights}"]


@pytest.mark.usefixtures("no_workers")
def test_embedding_again_does_nothing_and_says_so(
    clipmill: Console, embedded: Path, drawn: Drawn, sharp_weights: Path
) -> None:
    ran = clipmill(*same_again(embedded, drawn, sharp_weights))
    assert ran.code == 0
    assert ran.out.startswith("nothing to do: all 3 shards are embedded already\n")
    assert "120 rows = 108 embedded + 12 failed" in ran.out
    assert str(embedded) in ran.out


@pytest.mark.usefixtures("no_workers")
def test_json_is_one_object_on_stdout(clipmill: Console, embedded: Path, drawn: Drawn, sharp_weights: Path) -> None:
    ran = clipmill(*same_again(embedded, drawn, sharp_weights), "--json")
    assert (ran.code, ran.out.count("\n")) == (0, 1)
    found = json.loads(ran.out)
    assert found["complete"] and found["planned_shards"] == found["shards_done_before"] == 3
    assert (found["dataset"]["rows"], found["dataset"]["embedded"], found["dataset"]["failed"]) == (120, 108, 12)
    assert found["run"]["rows"] == 0


@pytest.mark.usefixtures("no_workers")
@pytest.mark.parametrize(
    ("changed", "difference"),
    [
        (["-m", "tiny=random:2"], "with other settings: weights sha256 is "),
        (["--precision", "bf16"], "with other settings: precision is bf16, not fp32"),
        (["--embedding-type", "float32"], "with other settings: embedding type is float32, not float16"),
        (["--column", "label"], "without the column label: leave it out here, and copy it beside the dataset"),
        (["--no-texts"], "with other settings: embeds is images, not images and texts"),
    ],
)
def test_other_settings_into_the_same_folder_are_refused_with_the_difference(
    changed: list[str], difference: str, clipmill: Console, embedded: Path, drawn: Drawn, sharp_weights: Path
) -> None:
    again = same_again(embedded, drawn, sharp_weights)
    if changed[0] == "-m":
        del again[again.index("-m") : again.index("-m") + 2]
    ran = clipmill(*again, *changed)
    assert f"{embedded} was begun {difference}" in ran.complaint()
    assert ran.code == 2


def test_status_tells_what_is_there(clipmill: Console, embedded: Path) -> None:
    ran = clipmill("status", embedded)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith(f"{embedded}: complete\n")
    assert "3 planned, 3 committed, 0 failed, 0 left" in ran.out
    assert "120 rows = 108 embedded + 12 failed" in ran.out
    found = json.loads(clipmill("status", embedded, "--json").out)
    assert found["complete"] and found["shards_left"] == 0 and found["dataset"]["rows"] == 120


@pytest.mark.usefixtures("cluster")
def test_a_bad_shard_among_good_ones_is_exit_3_unless_allowed(
    clipmill: Console, tmp_path: Path, sharp_weights: Path
) -> None:
    write_pairs(tmp_path / "a.tar", 3)
    (tmp_path / "b.tar").write_text("not a tar" * 100)
    command = ["embed", tmp_path, "-o", tmp_path / "out", "-m", f"tiny={sharp_weights}"]
    ran = clipmill(*command)
    assert ran.code == 3 and ran.out == ""
    assert ran.err.splitlines()[-1].startswith(f"clipmill: 1 of 2 shards failed: {tmp_path / 'b.tar'}: ")
    status = clipmill("status", tmp_path / "out").out
    assert "not complete" in status and "2 planned, 1 committed, 1 failed, 1 left" in status
    assert "run the same `clipmill embed` again" in status
    ran = clipmill(*command, "--max-failed-shards", "1")
    assert ran.code == 0
    assert "not a tar" in ran.out and "1 of 2 shards" in ran.out


def test_a_reader_that_leaves_early_makes_no_noise() -> None:
    ran = subprocess.run(f"{EXECUTABLE} models | head -1", shell=True, capture_output=True, text=True, check=False)
    assert ran.stdout.startswith("variant") and ran.stderr == ""
