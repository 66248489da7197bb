"""What tests of the main job share: a run on Ray, and ways to run without."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import alone
import pyarrow as pa
import pytest
from clipmill.pipeline import EmbedJob
from clipmill.pipeline.dataset.output import Output
from clipmill.pipeline.inputs.shards import read_samples
from clipmill.pipeline.records import Sample, Shard
from clipmill.pipeline.running import embed as module
from fakes import Drawn
from fsspec.implementations.memory import MemoryFileSystem
from parquet_kit import in_memory, pack


@pytest.fixture
def output(tmp_path: Path) -> Output:
    """A local one, prepared."""
    made = Output.at(str(tmp_path / "out"))
    made.prepare()
    return made


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """No cluster: shards are embedded in this process, by the workers that Ray would have. Returns what was done."""
    did: list[str] = []

    alone.patch(monkeypatch.setattr, lambda shard: did.append(Path(shard.url).name))
    return did


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever starts a cluster or looks into a shard fails the test."""

    def never(*_: object) -> Any:
        pytest.fail("there is nothing to do")

    for name in ("run_shards", "connected", "look_into"):
        monkeypatch.setattr(module, name, never)


@pytest.fixture
def some(drawn: Drawn, base: EmbedJob, tmp_path: Path) -> EmbedJob:
    """A folder with the first two shards alone, to be embedded here."""
    (tmp_path / "data").mkdir()
    for tar in drawn.tars[:2]:
        shutil.copy(tar, tmp_path / "data")
    return replace(base, inputs=[str(tmp_path / "data")], out=str(tmp_path / "out"))


@pytest.fixture
def memory() -> Iterator[MemoryFileSystem]:
    store = MemoryFileSystem()
    store.store.clear()
    yield store
    store.store.clear()


@pytest.fixture(params=["local", "remote"])
def read_parquet(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., list[Sample]]:
    def samples(columns: bytes | dict[str, Any] | pa.Table, **options: Any) -> list[Sample]:
        data = columns if isinstance(columns, bytes) else pack(columns, **options)
        if request.param == "remote":
            return in_memory(data)
        path = tmp_path / "x.parquet"
        path.write_bytes(data)
        return list(read_samples(Shard(str(path))))

    return samples
