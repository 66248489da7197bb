"""Shards over actors: each is done once, whatever happens to shards, workers and storage."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from clipmill.pipeline.dataset.layout import OWN
from clipmill.pipeline.dataset.output import Output
from clipmill.pipeline.errors import InfrastructureError, ModelError, UserError
from clipmill.pipeline.records import Shard
from clipmill.pipeline.running.driver import run_shards
from clipmill.pipeline.running.events import Event, Rows, ShardDone, ShardFailed, WorkerLost, WorkersStarted
from clipmill.pipeline.running.placement import Placement
from fakes import FakeFactory, FakeWorkers, attempts, write_pairs

ONE = Placement(1, 1, 0.0)


def shards(*names: str) -> list[Shard]:
    return [Shard(f"s3://bucket/{name}.tar") for name in names]


def name_of(shard: Shard) -> str:
    return shard.url.rpartition("/")[2].removesuffix(".tar")


# --- a run in which everything goes wrong ----------------------------------------------------------------------------

FINE = [f"fine-{i}" for i in range(6)]
BESIDE = 1  # a shard whose worker dies of another one has lost a try; then it goes alone
NAMES = [*FINE[:2], "bad-0", "buggy-0", "flaky-0", "deadly-0", "broken-0", *FINE[2:]]


@dataclass(frozen=True)
class Outcome:
    events: list[Event]
    tries: dict[str, int]

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def done(self) -> list[str]:
        return sorted(name_of(event.shard) for event in self.of(ShardDone))

    @property
    def failed(self) -> dict[str, str]:
        return {name_of(event.shard): event.reason for event in self.of(ShardFailed)}


@pytest.fixture(scope="module")
def outcome(cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    folder = tmp_path_factory.mktemp("tries")
    return Outcome(list(run_shards(shards(*NAMES), FakeWorkers(folder), Placement(2, 1, 0.0))), attempts(folder))


def test_every_shard_ends_once(outcome: Outcome) -> None:
    assert outcome.done == sorted([*FINE, "flaky-0", "deadly-0"])
    assert sorted(outcome.failed) == ["bad-0", "broken-0", "buggy-0"]
    assert len(outcome.of(ShardDone)) + len(outcome.of(ShardFailed)) == len(NAMES)


def test_a_bad_shard_is_not_tried_again(outcome: Outcome) -> None:
    assert outcome.failed["bad-0"] == "s3://bucket/bad-0.tar: not a tar"
    assert outcome.tries["bad-0"] <= 1 + BESIDE


def test_a_bug_of_ours_is_not_taken_for_a_failing_storage(outcome: Outcome) -> None:
    assert outcome.failed["buggy-0"].startswith("s3://bucket/buggy-0.tar: AttributeError: ")
    assert "(a bug in clipmill.pipeline.embedding.embed_shard, line " in outcome.failed["buggy-0"]
    assert outcome.tries["buggy-0"] <= 1 + BESIDE


def test_a_failing_storage_is_tried_again(outcome: Outcome) -> None:
    assert outcome.tries["flaky-0"] >= 2
    assert outcome.failed["broken-0"] == "OSError: [Errno 5] the disk hiccups"
    assert outcome.tries["broken-0"] >= 3 - BESIDE


def test_shards_of_a_worker_that_dies_finish(outcome: Outcome) -> None:
    assert outcome.tries["deadly-0"] == 2


def test_a_worker_that_dies_is_told_and_replaced(cluster: None, tmp_path: Path) -> None:
    events = list(run_shards(shards("fine-0", "deadly-0", "fine-1"), FakeWorkers(tmp_path), ONE))
    assert [isinstance(event, WorkerLost) for event in events].count(True) == 1
    assert sorted(name_of(event.shard) for event in events if isinstance(event, ShardDone)) == [
        "deadly-0",
        "fine-0",
        "fine-1",
    ]
    assert attempts(tmp_path)["deadly-0"] == 2


def test_what_a_worker_counted_reaches_the_driver(outcome: Outcome) -> None:
    for event in outcome.of(ShardDone):
        expected = (event.shard.url, 4, 3, {"decode: truncated JPEG": 1}, 100)
        stats = event.stats
        assert (stats.url, stats.rows, stats.embedded, stats.failures, stats.part_bytes) == expected


def test_workers_are_told_of_once_and_first(outcome: Outcome) -> None:
    assert outcome.of(WorkersStarted) == [WorkersStarted(2)] and outcome.events[0] == WorkersStarted(2)


def test_progress_never_runs_ahead_of_the_rows(outcome: Outcome) -> None:
    """It may lag behind: what a worker did just before it died is never heard of."""
    told = outcome.of(Rows)
    tries = sum(outcome.tries.values())
    assert 0 < sum(rows.embedded for rows in told) <= 3 * tries
    assert 0 < sum(rows.failed for rows in told) <= tries


def only_importable_here() -> None:
    """This module is not sent to workers, and they cannot import it."""


def test_a_shard_that_kills_its_workers_is_given_up_and_its_neighbour_is_not(cluster: None, tmp_path: Path) -> None:
    """Both are under way when the first worker dies, which tells nothing of whose fault it was."""
    outcome = Outcome(list(run_shards(shards("poison-0", "fine-0"), FakeWorkers(tmp_path), ONE)), attempts(tmp_path))
    assert outcome.done == ["fine-0"] and list(outcome.failed) == ["poison-0"]
    assert outcome.failed["poison-0"].startswith("its worker died 3 times: ") and outcome.tries["poison-0"] == 3
    assert "\n" not in outcome.failed["poison-0"]
    assert len(outcome.of(WorkerLost)) == 3


# --- runs that cannot go on ------------------------------------------------------------------------------------------


def test_a_model_that_cannot_be_loaded_is_told_as_such(cluster: None, tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        list(run_shards(shards("fine-0"), FakeWorkers(tmp_path, on_start="refuses"), ONE))
    assert str(caught.value) == "no such model here"
    assert attempts(tmp_path) == {}


def test_what_is_wrong_for_every_shard_stops_the_run(cluster: None, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^the output is not yours$"):
        list(run_shards(shards("wrong-0", *FINE), FakeWorkers(tmp_path), ONE))
    assert attempts(tmp_path)["wrong-0"] == 1


def test_workers_that_cannot_even_be_made_are_not_tried_for_ever(cluster: None) -> None:
    """As on machines where clipmill, or something that it needs, is not installed."""
    with pytest.raises(InfrastructureError, match=f"No module named '{__name__}'"):
        list(run_shards(shards("fine-0"), only_importable_here, ONE))  # type: ignore[arg-type]


@pytest.mark.long
def test_workers_that_die_at_their_start_are_not_replaced_for_ever(cluster: None, tmp_path: Path) -> None:
    with pytest.raises(InfrastructureError, match="workers keep dying"):
        list(run_shards(shards("fine-0"), FakeWorkers(tmp_path, on_start="dies"), ONE))


def test_no_shards_need_no_worker(cluster: None, tmp_path: Path) -> None:
    assert list(run_shards([], FakeWorkers(tmp_path), ONE)) == []


def test_leaving_a_run_early_frees_its_workers(cluster: None, tmp_path: Path) -> None:
    events = run_shards(shards(*FINE), FakeWorkers(tmp_path), Placement(1, 2, 0.0))
    for event in events:
        if isinstance(event, ShardDone):
            break
    events.close()  # type: ignore[attr-defined]
    after = list(run_shards(shards("fine-9"), FakeWorkers(tmp_path), Placement(1, 2, 0.0)))  # which needs both CPUs
    assert [name_of(event.shard) for event in after if isinstance(event, ShardDone)] == ["fine-9"]


# --- real shards -----------------------------------------------------------------------------------------------------


def test_a_worker_that_dies_within_a_shard_leaves_nothing_but_whole_parts(cluster: None, tmp_path: Path) -> None:
    (tmp_path / "tries").mkdir()
    todo = [write_pairs(tmp_path / f"{i}.tar", 40) for i in range(3)]
    output = Output.at(str(tmp_path / "out"))
    output.prepare()
    for event in run_shards(todo, FakeFactory(output, tmp_path / "tries"), ONE):
        if isinstance(event, WorkerLost):
            assert output.parts() <= {shard.part_name for shard in todo}
            assert list((tmp_path / "out" / OWN / "staging").iterdir())  # what it was writing
    assert output.parts() == {shard.part_name for shard in todo}
    for shard in todo:
        rows = pq.read_table(tmp_path / "out" / "data" / shard.part_name).to_pylist()
        assert [row["key"] for row in rows] == [f"{i:05d}" for i in range(40)]
        assert all(row["similarity"] is not None for row in rows)
    output.prepare()
    assert list((tmp_path / "out" / OWN / "staging").iterdir()) == []
