"""What tests share: one Ray cluster of two CPUs, one small data set of drawn pairs, one model's weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fakes
import pytest
import s3
import torch
from clipmill.clipmodel import weights
from clipmill.clipmodel.weights import Loaded
from clipmill.jobs.drawn.pairs import PairSpec
from clipmill.jobs.drawn.shards import DrawnSpec, write_shards
from fakes import Drawn
from s3 import Bucket, S3Server
from s3fs import S3FileSystem

torch.set_num_threads(1)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.write_line(f"object storage in tests: {s3.described()}")  # a header is not seen with -q


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


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3.serve(tmp_path_factory.mktemp("s3")) as server:
        S3FileSystem.clear_instance_cache()  # clients keep to the environment in which they were made
        yield server
        S3FileSystem.clear_instance_cache()


@pytest.fixture
def bucket(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """A fresh bucket; this process and those that it starts find the server by the usual environment variables. Ray's
    workers, who were started before, need `server.options()`."""
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    return Bucket.fresh(s3_server)
