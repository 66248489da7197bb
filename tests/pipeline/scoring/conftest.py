"""A dataset and a head to score it with, datasets of several widths, and modules of one's own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import torch
from clipmill.clipmodel.sources import find
from clipmill.pipeline import ScoreJob
from clipmill.pipeline.dataset.dataset import Dataset
from made import make_dataset
from safetensors.torch import save_file
from score_kit import DIM, PARTS
from torch import nn


@pytest.fixture
def head() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(DIM, 1)


@pytest.fixture
def job(head: nn.Linear, tmp_path: Path) -> ScoreJob:
    make_dataset(tmp_path / "in", PARTS)
    save_file(head.state_dict(), tmp_path / "head.safetensors")
    return ScoreJob(str(tmp_path / "in"), str(tmp_path / "scores"), [f"quality={tmp_path / 'head.safetensors'}"])


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], str]]:
    """A module of one's own in the folder that commands are run in; it is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules), list(sys.path)

    def write(name: str, code: str) -> str:
        (tmp_path / f"{name}.py").write_text(code, encoding="utf-8")
        return f"{name}:score"

    yield write
    sys.path[:] = before[1]
    for name in sys.modules.keys() - before[0]:
        if (tmp_path / f"{name}.py").exists():
            del sys.modules[name]


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> Mapping[int, Dataset]:
    """By width. Those of 768 and 512 numbers say that OpenAI's models made them."""
    made = {}
    for width, variant in ((4, "tiny"), (512, "ViT-B/32"), (768, "ViT-L/14")):
        sha256 = find(variant, "openai")[1].sha256 if width > 4 else "0" * 64
        out, models = tmp_path_factory.mktemp("heads") / "in", [("", variant)]
        made[width] = make_dataset(out, [{}], dim=width, models=models, weights_sha256=str(sha256))
    return made
