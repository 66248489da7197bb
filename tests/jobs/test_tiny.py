"""The shipped `tiny` model is as good as it is said to be, and its record agrees with it."""

from __future__ import annotations

import json
import tarfile
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pytest
import torch
from clipmill.clipmodel.config import VARIANTS
from clipmill.clipmodel.weights import Loaded, load
from clipmill.jobs import tiny
from clipmill.jobs.drawn.pairs import PairSpec
from clipmill.jobs.drawn.scenes import CLASSES, HELD_OUT
from clipmill.jobs.drawn.shards import DrawnSpec, write_shard
from clipmill.jobs.tiny import ASSET, RECIPE, Figures, Recipe, main, measure
from safetensors import safe_open

RECORD = json.loads(ASSET.with_suffix(".json").read_text())


@pytest.fixture(scope="module")
def shipped() -> Loaded:
    return load("tiny")


@pytest.mark.long
def test_tiny_knows_scenes_that_it_never_saw(shipped: Loaded) -> None:
    """On series of scenes that neither training nor the record has used."""
    found = measure(shipped, images=600, draws=2, seed=77_000)
    assert found.zero_shot_top1 >= 0.95
    assert found.recall_at_1_text_to_image >= 0.90
    assert found.recall_at_1_image_to_text >= 0.90
    assert found.right_caption_auc >= 0.98
    # of pairs that training never showed, no figure is promised: what the record says is what is found
    for name, share in asdict(found).items():
        assert share == pytest.approx(RECORD["figures"][name], abs=0.05), name


def test_the_record_has_every_figure_and_they_reach_the_targets() -> None:
    figures = RECORD["figures"]
    assert list(figures) == [field.name for field in fields(Figures)]
    assert figures["zero_shot_top1"] >= 0.95
    assert min(figures["recall_at_1_text_to_image"], figures["recall_at_1_image_to_text"]) >= 0.90
    assert figures["right_caption_auc"] >= 0.98
    assert all(0 <= share <= 1 for share in figures.values())


def test_the_record_tells_the_recipe_and_what_was_held_out() -> None:
    assert RECORD["recipe"] == asdict(RECIPE)
    assert RECORD["held_out"] == [" ".join(pair) for pair in HELD_OUT]
    assert "knows those and nothing else" in RECORD["about"]


def test_the_file_is_small_and_says_where_it_is_from(shipped: Loaded) -> None:
    assert ASSET.stat().st_size <= 12e6
    with safe_open(ASSET, "pt") as file:
        said = json.loads(file.metadata()["clipmill"])["metadata"]
        slices = [file.get_slice(name) for name in file.keys()]  # noqa: SIM118  # no mapping
    assert said["about"] == RECORD["about"]
    assert json.loads(said["recipe"]) == RECORD["recipe"]
    assert {each.get_dtype() for each in slices if len(each.get_shape()) > 1} == {"F16"}
    assert shipped.card.config == VARIANTS["tiny"]
    assert shipped.card.variant == "tiny"


def test_measuring_uses_no_scene_of_training() -> None:
    """Series are told apart by their seeds."""
    used = {1000 + k for k in range(5)} | {77_000 + k for k in range(5)}
    assert RECIPE.seed not in used
    assert len(CLASSES) == 144  # what zero-shot chooses among


def test_the_whole_recipe_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shipped: Loaded) -> None:
    """Draw, train, measure and ship, with a recipe of seconds, into another place; and a second time from what is
    there."""
    asset = tmp_path / "assets" / "tiny.safetensors"
    asset.parent.mkdir()
    measured: list[Loaded] = []

    def measure_nothing(model: Loaded) -> Figures:
        measured.append(model)
        return Figures(*([0.12349] * len(fields(Figures))))

    monkeypatch.setattr(tiny, "RECIPE", Recipe(pairs=2000, steps=1, batch_size=4))
    monkeypatch.setattr(tiny, "ASSET", asset)
    monkeypatch.setattr(tiny, "measure", measure_nothing)
    monkeypatch.setattr(tiny, "write_shards", few_pairs)
    for _ in range(2):
        main(tmp_path / "work")
    record: dict[str, Any] = json.loads(asset.with_suffix(".json").read_text())
    assert set(record) == set(RECORD)
    assert record["recipe"]["pairs"] == 2000
    assert set(record["figures"].values()) == {0.1235}
    assert len(measured) == 2 and measured[0].card.config == VARIANTS["tiny"]
    first, second = (each.model.state_dict() for each in measured)
    assert all(torch.equal(first[name], second[name]) for name in first)


def few_pairs(spec: DrawnSpec, out: Path, processes: int) -> None:
    """In place of minutes of drawing. The series is the recipe's: nothing held out, and its seed."""
    assert spec.series == PairSpec(RECIPE.seed, held_out=False) and spec.pairs == 2000
    tiny.write_shards = pytest.fail  # type: ignore[assignment]  # once is enough
    out.mkdir(parents=True)
    for shard in range(spec.shards):
        write_shard(DrawnSpec(8, spec.shards, spec.series), shard, out)
    assert all(tarfile.is_tarfile(tar) for tar in out.glob("*.tar"))
