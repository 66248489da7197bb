"""`clipmill label` as people and scripts see it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from clipmill.clipmodel.download import sha256_of
from clipmill.clipmodel.weights import Loaded
from clipmill.clipmodel.zeroshot import classifier
from console import Console, console
from made import make_dataset

NAMES = ["red star", "blue fish", "grey crescent"]


@pytest.fixture
def clipmill(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Console:
    monkeypatch.setenv("COLUMNS", "80")
    return console(monkeypatch, capsys)


@pytest.fixture
def arguments(sharp: Loaded, sharp_weights: Path, tmp_path: Path) -> Callable[..., list[str]]:
    """A dataset of three images, the last of which is taken for another."""
    vectors = classifier(sharp.model, sharp.tokenizer, NAMES, ["{}"]).numpy()
    part = {"image_embedding": vectors, "truth": ["red star", "blue fish", "red star"]}
    sha256 = sha256_of([sharp_weights])
    make_dataset(tmp_path / "in", [part], dim=256, columns=["truth"], weights_sha256=sha256)
    (tmp_path / "classes.txt").write_text("\n".join(NAMES))

    def made(*more: str) -> list[str]:
        where = [str(tmp_path / "in"), "-o", str(tmp_path / "labels"), "--classes", str(tmp_path / "classes.txt")]
        return ["label", *where, "--templates", "simple", "-m", f"tiny={sharp_weights}", *more]

    return made


def test_it_tells_what_was_labelled_and_how_right_it_is(clipmill: Console, arguments: Any, tmp_path: Path) -> None:
    ran = clipmill(*arguments("--truth", "truth"))
    assert (ran.code, ran.err) == (0, "")
    assert "3 rows = 3 labelled + 0 none + 0 without an image embedding" in ran.out
    assert "top-1 66.7%, top-3 100.0% of 3 images" in ran.out
    assert "red star 100.0% 50.0% 2 grey crescent (1)" in " ".join(ran.out.split())
    assert ran.out.endswith(f"in {tmp_path / 'labels'}\n")
    assert clipmill(*arguments()).out.startswith("nothing to do: the only part is labelled already\n")


def test_it_says_when_the_classes_do_not_cover_the_data(clipmill: Console, arguments: Any, tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("red star\n")
    ran = clipmill(*arguments("--background", "blue fish"))
    assert "3 rows = 2 labelled + 1 none" in ran.out
    assert "background  1 of 3 images (33.3%) fit no class as well as blue fish\nWARNING     the classes do" in ran.out


def test_as_json_it_is_one_object(clipmill: Console, arguments: Any) -> None:
    found = json.loads(clipmill(*arguments("--truth", "truth", "--json")).out)
    assert found["counts"] == {"rows": 3, "labelled": 3, "none": 0, "uncovered": 0}
    assert found["accuracy"]["classes"][0]["mistaken_for"] == "grey crescent"


def test_what_is_wrong_is_one_line(clipmill: Console, arguments: Any, tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("")
    ran = clipmill(*arguments())
    assert ran.code == 2 and ran.complaint().endswith("classes.txt: no class in it; write one name a line")
