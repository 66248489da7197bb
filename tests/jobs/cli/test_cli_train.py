"""`clipmill train`: from shards to weights that `embed` takes, and what it says on the way."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from clipmill.clipmodel.config import VARIANTS, CLIPConfig, TextConfig, VisionConfig
from clipmill.clipmodel.weights import load
from console import Console, console
from fakes import Drawn, write_pairs

SMALLEST = CLIPConfig(32, VisionConfig(32, 64, 1, 16), TextConfig(64, 1, 1, vocab_size=1024, context_length=16))


@pytest.fixture
def clipmill(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Console:
    monkeypatch.setitem(VARIANTS, "smallest", SMALLEST)
    return console(monkeypatch, capsys)


def test_train_writes_weights_and_tells_how_good_they_are(clipmill: Console, drawn: Drawn, tmp_path: Path) -> None:
    out = tmp_path / "my.safetensors"
    command = ["train", *drawn.tars[:2], "-o", out, "--model", "smallest", "--steps", "4", "--warmup", "1"]
    ran = clipmill(*command, "--batch-size", "16", "--eval", drawn.tars[2], "--label", "label")
    assert ran.code == 0, ran.err
    first, *figures = ran.out.splitlines()
    assert first == f"weights in {out}; use them as --model {out}"
    named = [re.sub(r" +[\d.]+% .*", "", line) for line in figures]
    ways = [f"{way}@{k}" for way in ("text to image", "image to text") for k in (1, 5, 10)]
    assert named == [*(f"recall {way}" for way in ways), "zero-shot top-1"]
    assert all(re.search(r"\d\.\d%  of \d+ (pairs|images, \d+ classes)$", line) for line in figures)
    assert "4/4 steps" in ran.err
    assert load(str(out)).card.variant == "smallest"
    assert [path.name for path in tmp_path.iterdir()] == ["my.safetensors"]


def test_train_without_eval_tells_where_the_weights_are(clipmill: Console, drawn: Drawn, tmp_path: Path) -> None:
    out = tmp_path / "my.safetensors"
    ran = clipmill("train", drawn.folder, "-o", out, "-m", "smallest", "--steps", "2", "--batch-size", "8")
    assert (ran.code, ran.out) == (0, f"weights in {out}; use them as --model {out}\n")


def test_training_is_resumed_from_the_checkpoint_beside_the_weights(
    clipmill: Console, drawn: Drawn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "my.safetensors"
    command = ["train", drawn.folder, "-o", out, "-m", "smallest", "--batch-size", "8", "--checkpoint-every", "2"]

    def ctrl_c(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("clipmill.clipmodel.weights.save", ctrl_c)
        ran = clipmill(*command, "--steps", "3")
    assert ran.code == 130
    assert ran.err.splitlines()[-1].startswith("clipmill: stopped; what is committed stays, run the same command again")
    assert not out.exists() and out.with_name("my.safetensors.checkpoint").exists()
    assert clipmill(*command, "--steps", "3").code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["my.safetensors"]


def test_the_shipped_recipes_model_trains(clipmill: Console, tmp_path: Path) -> None:
    """A ResNet, at 96 pixels."""
    write_pairs(tmp_path / "0.tar", 6)
    out = tmp_path / "my.safetensors"
    ran = clipmill("train", tmp_path / "0.tar", "-o", out, "-m", "tiny", "--steps", "1", "--batch-size", "3")
    assert ran.code == 0, ran.err
    assert load(f"tiny={out}").card.config == VARIANTS["tiny"]


def test_too_few_pairs_show_in_the_reading_and_are_exit_2(clipmill: Console, tmp_path: Path) -> None:
    write_pairs(tmp_path / "0.tar", 6)
    out = tmp_path / "my.safetensors"
    ran = clipmill("train", tmp_path / "0.tar", "-o", out, "-m", "smallest", "--steps", "2", "--batch-size", "7")
    assert ran.code == 2 and not out.exists()
    shortage = "the shards hold too few pairs with both image and caption for a batch of 7"
    assert ran.err.splitlines()[-1] == f"clipmill: {shortage}: lower --batch-size"


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        (["-o", "my.pt"], "my.pt: the weights' file must end in .safetensors"),
        (["-o", "nowhere/my.safetensors"], "nowhere: no such folder to write the weights to"),
        (["-m", "tinny"], "unknown model 'tinny': did you mean tiny"),
        (["--batch-size", "1"], "--batch-size"),
        (["--steps", "0"], "--steps"),
        (["--precision", "fp8"], "--precision"),
        (["--eval", "nowhere.tar"], "nowhere.tar: no such file or folder"),
        (["--storage-option", "a"], "must be KEY=VALUE"),
    ],
)
def test_a_wrong_input_is_one_line_and_exit_2(
    changed: list[str], complaint: str, clipmill: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_pairs(tmp_path / "0.tar", 6)
    defaults = ["--steps", "2", "--batch-size", "2"]
    ran = clipmill("train", "0.tar", "-o", "my.safetensors", "-m", "smallest", *defaults, *changed)
    assert ran.code == 2
    assert complaint in ran.complaint()
    assert not list(tmp_path.glob("**/*.safetensors"))
