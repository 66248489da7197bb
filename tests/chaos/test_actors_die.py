"""A worker's process ends in the middle of its work, at every stage: nothing is lost, doubled or left behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import chaos_kit
import pytest
import ray
from chaos_kit import STAGES, Death, DyingFactory, check_exact, files
from clipmill.pipeline.dataset.output import Output
from clipmill.pipeline.running.driver import run_shards
from clipmill.pipeline.running.events import ShardDone, ShardFailed, WorkerLost
from clipmill.pipeline.running.placement import Placement
from fakes import attempts, write_pairs

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def by_value(cluster: None) -> Iterator[None]:
    ray.cloudpickle.register_pickle_by_value(chaos_kit)
    yield
    ray.cloudpickle.unregister_pickle_by_value(chaos_kit)


@pytest.mark.parametrize("stage", STAGES)
def test_a_worker_that_dies_is_made_up_for(by_value: None, stage: str, tmp_path: Path) -> None:
    shards = [write_pairs(tmp_path / f"{i:05d}.tar", 12) for i in range(5)]
    out, deaths = tmp_path / "out", tmp_path / "deaths"
    deaths.mkdir()
    output = Output.at(str(out)).prepare()
    events = list(run_shards(shards, DyingFactory(str(out), Death(stage, deaths)), Placement(2, 1, 0.0)))
    assert attempts(deaths)["death"] >= 1
    assert sum(isinstance(event, WorkerLost) for event in events) == 1
    assert not any(isinstance(event, ShardFailed) for event in events)
    assert sorted(e.shard.url for e in events if isinstance(e, ShardDone)) == [shard.url for shard in shards]
    left = {name for name in files(out) if name.startswith(".clipmill/staging/")}
    assert left or stage != "before the commit"  # of the writer that died; readers pass over it
    check_exact(out, shards, left)
    output.prepare()
    check_exact(out, shards, set())
