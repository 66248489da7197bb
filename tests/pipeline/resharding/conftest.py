"""A dataset to make new shards of, and both ways to read it."""

from __future__ import annotations

from pathlib import Path

import pytest
import ray
from clipmill.pipeline.dataset.dataset import Dataset
from clipmill.pipeline.job import ReshardJob
from clipmill.pipeline.resharding import source_samples
from clipmill.pipeline.resharding.spans import Pace
from embedded import embed_here
from reshard_kit import make_shards

EAGER = Pace(0.0, 1e9)  # as if requests cost nothing


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """60 rows, of which 9 have failed."""
    root = tmp_path_factory.mktemp("reshard")
    return embed_here(make_shards(root / "shards"), root / "out")


@pytest.fixture(autouse=True)
def without_ray(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads, although other tests may have started a cluster."""
    if "cluster" not in request.fixturenames:
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
        monkeypatch.setattr(ray, "is_initialized", lambda: False)


@pytest.fixture(params=["by ranges", "whole"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How source shards are read, whatever it costs."""
    for name in ("DISK", "NETWORK"):
        monkeypatch.setattr(source_samples, name, EAGER)
    if request.param == "whole":
        monkeypatch.setattr(source_samples, "worth_asking_for", lambda *_: None)
    found: str = request.param
    return found


@pytest.fixture
def job(dataset: Dataset, tmp_path: Path) -> ReshardJob:
    return ReshardJob(dataset.url, str(tmp_path / "new"), samples_per_shard=10)
