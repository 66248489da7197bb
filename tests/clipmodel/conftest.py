"""Small models as files, for the tests of weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import reference
from clipmill.clipmodel import download
from clipmill.clipmodel.config import VARIANTS
from clipmill.clipmodel.model import CLIP
from random_models import random_clip
from weights_kit import RESNET, VIT, trace


@pytest.fixture
def variants(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The small models as rows of the table, under names as the real ones have; an empty cache; no waiting."""
    rows = {"S/16": VIT, "S-16": replace(VIT, activation="gelu"), "S-16-quickgelu": VIT, "R": RESNET}
    for name, config in rows.items():
        monkeypatch.setitem(VARIANTS, name, config)
    monkeypatch.setenv("CLIPMILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(download, "BACKOFF", 0.0)


@pytest.fixture
def model() -> CLIP:
    return random_clip(VIT)


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A TorchScript archive of `model`. Read only."""
    theirs = reference.model(VIT, random_clip(VIT).state_dict())
    return trace(theirs, VIT, tmp_path_factory.mktemp("traced") / "model.pt")
