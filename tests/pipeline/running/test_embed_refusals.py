"""What a job refuses, and what it says of inputs that fail."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from clipmill.pipeline import EmbedJob, embed
from clipmill.pipeline.dataset.layout import SUCCESS
from clipmill.pipeline.dataset.summary import QUARANTINE
from clipmill.pipeline.errors import (
    InputError,
    OutputError,
    TooManyFailuresError,
    UserError,
)
from clipmill.pipeline.inputs.first_look import FirstLook
from clipmill.pipeline.running import embed as module
from clipmill.pipeline.running.events import Rows
from clipmill.pipeline.running.tally import Tally
from fakes import Drawn, parts

# --- requests and inputs that are wrong ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"batch_size": 0},
        {"workers": 0},
        {"workers": -1},
        {"gpus_per_worker": -0.5},
        {"price_per_hour": -1.0},
        {"price_per_hour": float("inf")},
        {"max_failed_samples": 1.5},
        {"max_failed_samples": -0.1},
        {"max_failed_samples": float("nan")},
        {"max_failed_shards": -1},
        {"images": False, "texts": False},
        {"columns": ("uid", "uid:int64")},
        {"inputs": []},
        {"model": "tinny"},
    ],
)
def test_what_no_run_could_use_is_refused_before_anything_is_made(
    base: EmbedJob, tmp_path: Path, nowhere: None, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    monkeypatch.setattr(module, "look_into", lambda *_: FirstLook())
    with pytest.raises(UserError) as caught:
        embed(replace(base, out=str(tmp_path / "out"), **change))
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_inputs_that_are_no_shards_are_refused_before_anything_is_made(base: EmbedJob, tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(b"junk" * 999)
    with pytest.raises(InputError, match="not a tar"):
        embed(replace(base, inputs=[str(tmp_path / "x.tar")], out=str(tmp_path / "out")))
    assert not (tmp_path / "out").exists()


def test_an_output_that_is_a_shard_is_refused_and_unharmed(here: list[str], some: EmbedJob) -> None:
    tar = next(Path(some.inputs[0]).glob("*.tar"))
    before = tar.read_bytes()
    with pytest.raises(OutputError, match="there is a file where a folder should be"):
        embed(replace(some, out=str(tar)))
    assert tar.read_bytes() == before


def test_too_many_failed_samples_fail_the_run_and_stay_embedded(job: EmbedJob, nowhere: None) -> None:
    assert embed(replace(job, max_failed_samples=0.1)).dataset.failed == 12
    with pytest.raises(TooManyFailuresError, match=r"^12 of 120 samples failed: .+ \(\d\)") as caught:
        embed(replace(job, max_failed_samples=0.09))
    assert caught.value.exit_code == 3
    assert len(parts(job.out)) == 120


def test_a_run_that_only_fails_is_stopped_early(base: EmbedJob) -> None:
    run = Tally(replace(base, max_failed_samples=0.5))
    run.see(Rows(0, 900))  # too few to say
    with pytest.raises(TooManyFailuresError, match=r"1,001 of 1,001 samples failed"):
        run.see(Rows(0, 101))
    run = Tally(replace(base, max_failed_samples=0.5))
    for _ in range(10):
        run.see(Rows(500, 500))


def test_a_shard_that_cannot_be_read_fails_the_run_until_it_can(here: list[str], some: EmbedJob, drawn: Drawn) -> None:
    assert embed(some).complete and (Path(some.out) / SUCCESS).exists()
    broken = Path(some.inputs[0]) / "00002.tar"
    broken.write_bytes(b"junk" * 999)
    with pytest.raises(TooManyFailuresError, match=rf"^1 of 3 shards failed: {broken}: not a tar") as caught:
        embed(some)
    assert caught.value.exit_code == 3
    assert not (Path(some.out) / SUCCESS).exists() and len(parts(some.out)) == 80

    tolerant = embed(replace(some, max_failed_shards=1))
    assert not tolerant.complete and list(tolerant.failed_shards) == [str(broken)]
    assert not (Path(some.out) / SUCCESS).exists()
    assert list(json.loads((Path(some.out) / QUARANTINE).read_text())) == [str(broken)]

    shutil.copy(drawn.tars[2], broken)
    assert embed(some).complete
    assert here == ["00000.tar", "00001.tar", *["00002.tar"] * 3]
    assert json.loads((Path(some.out) / QUARANTINE).read_text()) == {}
    assert (Path(some.out) / SUCCESS).exists() and len(parts(some.out)) == 120


@pytest.mark.parametrize("side", ["images", "texts"])
def test_one_side_may_be_left_out(here: list[str], some: EmbedJob, side: str) -> None:
    only = replace(some, images=False) if side == "images" else replace(some, texts=False)
    summary = embed(only)
    other = "text" if side == "images" else "image"
    for row in parts(some.out):
        assert row[f"{side[:-1]}_embedding"] is None and row["similarity"] is None
        assert (row[f"{other}_embedding"] is None) == (row["error"] is not None)
    assert summary.complete and summary.dataset.embedded > 60
