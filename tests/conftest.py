"""What tests share: one Ray cluster of two CPUs, one small data set of drawn pairs, one model's weights."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import fakes
import lent_workers
import needs
import pytest
import s3
import torch
from clipmill.clipmodel import weights
from clipmill.clipmodel.weights import Loaded
from clipmill.jobs.drawn.pairs import PairSpec
from clipmill.jobs.drawn.shards import DrawnSpec, write_shards
from clipmill.pipeline import EmbedJob, embed
from fakes import Drawn, Ran
from hypothesis import settings
from s3 import Bucket, S3Server, forget_clients

torch.set_num_threads(1)
settings.register_profile("no deadline", parent=settings(), deadline=None)  # slow machines run the tests, too
settings.load_profile("no deadline")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line about the programs that were missing."""
    skipped = terminalreporter.stats.get("skipped", [])
    if line := needs.summary(str(report.longrepr) for report in skipped):
        terminalreporter.write_line(line, yellow=True)


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What is kept between runs is kept elsewhere than in the home folder."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("CLIPMILL_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    """Connected to Ray, which every test that asks for this shares; as large as anybody's machine is."""
    import ray
    from clipmill.pipeline.running.cluster import connected

    for kit in (fakes, lent_workers):
        ray.cloudpickle.register_pickle_by_value(kit)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_OVERRIDE_RESOURCES", '{"CPU": 2}')
        with connected("local"):
            yield
    for kit in (fakes, lent_workers):
        ray.cloudpickle.unregister_pickle_by_value(kit)


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
def base(drawn: Drawn, sharp_weights: Path) -> EmbedJob:
    """All of the drawn shards, by one worker: each takes three seconds of a processor to start. Tests say into what."""
    return EmbedJob([str(drawn.folder)], "", f"tiny={sharp_weights}", batch_size=7, workers=1)


@pytest.fixture(scope="session")
def ran(cluster: None, base: EmbedJob, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """A run on Ray, with two workers. What it made is not to be changed."""
    out = tmp_path_factory.mktemp("run") / "out"
    events: list[Any] = []
    return Ran(out, embed(replace(base, out=str(out), workers=2), events.append), events)


@pytest.fixture
def job(ran: Ran, base: EmbedJob, tmp_path: Path) -> EmbedJob:
    """The same, done before, in a folder that may be changed."""
    return replace(base, out=str(shutil.copytree(ran.out, tmp_path / "out")))


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3.serve(tmp_path_factory.mktemp("s3")) as server:
        forget_clients()
        yield server
        forget_clients()


@pytest.fixture
def bucket(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """A fresh bucket; this process and those that it starts find the server by the usual environment variables. Ray's
    workers, who were started before, need `server.options()`."""
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    return Bucket.fresh(s3_server)
