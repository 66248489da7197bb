"""What tests share: one Ray cluster of two CPUs, one small data set of drawn pairs, one model's weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fakes
import pytest
import torch
from clipmill.clipmodel import weights
from clipmill.clipmodel.weights import Loaded
from clipmill.jobs.drawn.pairs import PairSpec
from clipmill.jobs.drawn.shards import DrawnSpec, write_shards
from fakes import Drawn

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    """Connected to Ray, which every test that asks for this shares; as large as anybody's machine is."""
    import ray
    from clipmill.pipeline.cluster import connected

    ray.cloudpickle.register_pickle_by_value(fakes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_OVERRIDE_RESOURCES", '{"CPU": 2}')
        with connected("local"):
            yield
    ray.cloudpickle.unregister_pickle_by_value(fakes)


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Drawn:
    """120 pairs in three shards: twelve with broken files, each in another way; every seventh with a wrong caption."""
    spec = DrawnSpec(120, 3, PairSpec(seed=7), wrong_captions=0.15, damaged=12)
    return Drawn(spec, write_shards(spec, tmp_path_factory.mktemp("drawn")))


@pytest.fixture(scope="session")
def sharp() -> Loaded:
    """A small model whose embeddings differ from image to image. Not to be changed."""
    return fakes.sharp_model()


@pytest.fixture(scope="session")
def sharp_weights(sharp: Loaded, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "sharp.safetensors"
    weights.save(sharp.model, path, variant="tiny")
    return path
