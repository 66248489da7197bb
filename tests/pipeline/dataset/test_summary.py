"""What a run did, what it cost, and how far a dataset is."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from clipmill.pipeline.dataset import summary as summary_module
from clipmill.pipeline.dataset.claims import shared
from clipmill.pipeline.dataset.layout import SUCCESS
from clipmill.pipeline.dataset.ledger import ledger
from clipmill.pipeline.dataset.manifest import Manifest
from clipmill.pipeline.dataset.manifest_files import Segments
from clipmill.pipeline.dataset.output import Output
from clipmill.pipeline.dataset.plan import SHARDS, Fingerprint, freeze
from clipmill.pipeline.dataset.summary import QUARANTINE, SUMMARY, Summary, Watch, status
from clipmill.pipeline.dataset.totals import STAGES, Totals
from clipmill.pipeline.embedding.embed_shard import embed_shard
from clipmill.pipeline.errors import OutputError
from clipmill.pipeline.records import Shard, ShardStats
from fakes import fake_tools, write_pairs

PRINT = Fingerprint("tiny", "clipmill", "ab" * 32, "96 px", "fp32", "float32", "77 tokens", "uid", "images and texts")
ONE = ShardStats("a", 10, 7, Counter({"decode: x": 2, "read: y": 1}), {"read": 1.0, "encode": 3.0, "total": 4.0}, 100)
TWO = ShardStats("b", 5, 5, Counter(), {"read": 3.5, "decode": 1.0, "total": 4.0}, 50)


@pytest.fixture
def shards(tmp_path: Path, output: Output) -> list[Shard]:
    """Three, planned in this order; all but the second embedded."""
    made = [write_pairs(tmp_path / f"{name}.tar", count) for name, count in (("c", 3), ("a", 4), ("b", 5))]
    freeze(output, PRINT, made)
    for shard in (made[0], made[2]):
        embed_shard(shard, fake_tools(), output)
    return made


def totals(*stats: ShardStats) -> Totals:
    made = Totals()
    for each in stats:
        made.add(each)
    return made


def test_totals_add_up() -> None:
    both = totals(ONE, TWO)
    assert (both.shards, both.rows, both.embedded, both.failed, both.part_bytes) == (2, 15, 12, 3, 150)
    assert both.failures == {"decode: x": 2, "read: y": 1}
    # parts of 0.1 do not tell the worker's time, and little is lost by taking the shard's for it
    assert both.seconds == {"read": 4.5, "encode": 3.0, "decode": 1.0, "total": 8.0, "worker": 8.0}


def test_the_bottleneck_is_the_busiest_stage() -> None:
    assert totals(ONE).bottleneck == "encode"
    assert totals(ONE, TWO).bottleneck == "read"
    assert totals().bottleneck is None


def test_where_waiting_is_known_the_bottleneck_is_who_waited_least() -> None:
    """Two shards in hand share the stages of their worker, which says less of who waits for whom."""
    seconds = {"decode": 5.0, "encode": 4.0, "commit": 1.0, "total": 10.0, "worker": 6.0}
    waits = {"starved": {"decode": 2.0, "encode": 0.5}, "blocked": {"decode": 2.5, "encode": 0.5}}
    assert totals(ShardStats("c", 9, 9, Counter(), seconds, 9, **waits)).bottleneck == "encode"
    late = ShardStats("d", 9, 9, Counter(), {**seconds, "commit": 9.5}, 9, **waits)
    assert totals(late).bottleneck == "commit"
    assert totals(ONE, TWO, late).watched == 10.0


def test_utilisation_is_a_share_of_the_workers_time() -> None:
    shares = {**dict.fromkeys(STAGES, 0.0), "read": 0.5625, "decode": 0.125, "encode": 0.375}
    assert totals(ONE, TWO).utilisation == shares
    shared = ShardStats("c", 9, 9, Counter(), {"encode": 3.0, "total": 8.0, "worker": 4.0})
    assert totals(shared).utilisation["encode"] == 0.75
    assert totals().utilisation == {}


def summary(**changes: Any) -> Summary:
    values: dict[str, Any] = {
        "out": "out", "planned": 2, "done_before": 0, "run": totals(ONE, TWO), "seconds": 9.0, "busy_seconds": 5.0,
        "failed_shards": {}, "dataset": totals(ONE, TWO), "fingerprint": "f", "workers": 2,
    }  # fmt: skip
    return Summary(**values | changes)


def test_a_dataset_is_complete_when_every_planned_shard_is_committed() -> None:
    assert summary().complete
    assert not summary(planned=3).complete
    assert not summary(left=1).complete and not summary(failed_shards={"a": "of an older part"}).complete


def test_speed_is_over_the_time_the_workers_were_ready() -> None:
    assert summary().samples_per_second == 3.0
    assert summary(busy_seconds=0.0).samples_per_second == 0.0


def test_flop_utilisation_is_of_the_time_in_which_the_encoder_was_at_work() -> None:
    known = ShardStats("c", 9, 9, seconds={"encode": 3.0, "total": 8.0}, flop=3e9, peak=2e9)
    assert totals(known).flop_utilisation == 0.5
    assert totals(known, ONE).flop_utilisation == 0.5  # of others the peak is not known
    assert totals(ONE).flop_utilisation is None
    assert totals(known).as_json()["flop_utilisation"] == 0.5


def test_mfu_is_of_all_of_the_workers_time() -> None:
    known = ShardStats("c", 9, 9, seconds={"encode": 3.0, "total": 8.0, "worker": 6.0}, flop=3e9, peak=2e9)
    assert totals(known).mfu == totals(known).as_json()["mfu"] == 0.25
    assert totals(ONE).mfu is None


def waiting(seconds: dict[str, float], **waits: dict[str, float]) -> Totals:
    """Of one shard that had its worker for itself, ten seconds long."""
    return totals(ShardStats("c", 9, 9, Counter(), {"total": 10.0, "worker": 10.0, **seconds}, 9, **waits))


def test_what_the_encoder_waited_for_is_who_was_at_work_meanwhile() -> None:
    """The decoder was at work for six seconds, and waited for the reader for two."""
    seconds = {"read": 9.0, "decode": 6.0, "encode": 2.0}
    found = waiting(seconds, starved={"decode": 2.0, "encode": 7.0}, blocked={"decode": 2.0, "encode": 1.0})
    assert found.waited_for == pytest.approx({"read": 7 * 2 / 8 / 10, "decode": 7 * 6 / 8 / 10, "write": 0.1})
    assert sum(found.waited_for.values()) == pytest.approx(0.8)  # all but the encoder's two seconds
    assert found.as_json()["waited_for"] == {"read": 0.175, "decode": 0.525, "write": 0.1}


def test_a_gpu_also_waits_for_its_engines_and_for_batches() -> None:
    seconds = {"read": 1.0, "engines": 3.0, "resize": 1.0, "encode": 4.0, "gpu": 3.0, "cores": 25.0}
    found = waiting(seconds, starved={"encode": 5.0}, blocked={})
    assert found.waited_for == pytest.approx({"engines": 0.5, "encode": 0.1})
    assert found.on_gpus and found.cores_a_worker == found.as_json()["cores_a_worker"] == 2.5


def test_nobody_is_blamed_where_waiting_is_not_known() -> None:
    assert totals(ONE, TWO).waited_for == totals().waited_for == {}


def test_an_empty_shard_was_never_at_the_encoder() -> None:
    empty = ShardStats("e", 0, 0, seconds={"read": 0.1, "total": 0.2}, peak=2e9)
    assert totals(empty).flop_utilisation is None and totals(empty).shards == 1


def test_what_a_run_costs_is_all_of_its_workers_time() -> None:
    told = summary(cost=0.18)
    assert told.as_json()["cost_per_million_pairs"] == pytest.approx(0.18 / 15 * 1e6)
    assert summary().cost is None and summary().as_json()["cost_per_million_pairs"] is None
    assert summary(run=Totals(), cost=0.18).cost_per_million is None


def test_what_is_left_costs_what_was_done_did() -> None:
    told = summary(cost=0.5, left=7)
    assert told.cost_left == pytest.approx(0.5 / told.run.shards * 7)
    assert told.seconds_left == pytest.approx(told.busy_seconds / told.run.shards * 7)
    assert (told.as_json()["shards_left"], told.as_json()["cost_left"]) == (7, told.cost_left)
    nothing = summary(run=Totals(), cost=0.5, left=7)
    assert nothing.cost_left is None and nothing.seconds_left is None


def test_a_summary_is_plain_json() -> None:
    told = summary(failed_shards={"c": "not a tar"}).as_json()
    assert told["run"]["failures"] == {"decode: x": 2, "read: y": 1} and told["run"]["bottleneck"] == "read"
    assert told["dataset"]["failed"] == 3 and told["failed_shards"] == {"c": "not a tar"}
    assert (told["complete"], told["planned_shards"], told["workers"]) == (False, 2, 2)


def test_status_tells_how_far_a_dataset_is(output: Output, shards: list[Shard]) -> None:
    told = status(output)
    assert told is not None
    assert (told.planned, told.dataset.shards, told.left, told.dataset.rows) == (3, 2, 1, 8)
    assert not told.complete and told.failed_shards == {}
    assert told.fingerprint == PRINT.digest and told.model == "tiny (clipmill), fp32"
    assert told.as_json()["shards_left"] == 1

    assert told.cost_per_million is None
    output.write(SUMMARY, b'{"price_per_hour": null, "cost_per_million_pairs": 1.5}')  # machines have prices
    told = status(output)
    assert told is not None and told.cost_per_million == 1.5
    output.write(SUMMARY, b'{"price_per_hour": 3.6}')
    output.write(QUARANTINE, b'{"x.tar": "not a tar"}')
    output.write(SUCCESS, b"")
    told = status(output)
    assert told is not None and not told.complete and told.failed_shards == {"x.tar": "not a tar"}  # one is left
    assert told.cost_per_million == pytest.approx(told.dataset.seconds["worker"] * 0.001 / 8 * 1e6)
    embed_shard(shards[1], fake_tools(), output)
    told = status(output)
    assert told is not None and told.complete


def test_there_is_no_status_of_what_was_not_begun(tmp_path: Path) -> None:
    assert status(Output.at(str(tmp_path / "nothing"))) is None


@pytest.mark.parametrize("name", [QUARANTINE, SUMMARY, SHARDS])
def test_a_damaged_file_of_ours_is_named(output: Output, shards: list[Shard], name: str) -> None:
    output.write(name, b"[junk")
    with pytest.raises(OutputError, match=rf"{name} is damaged: delete it"):
        status(output)


def many(output: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three shards are many now."""
    monkeypatch.setattr(summary_module, "MANY", 3)
    monkeypatch.setattr(Output, "part_sizes", None)  # no part is listed
    monkeypatch.setattr(summary_module, "planned_shards", None)


def test_of_many_the_manifest_tells(output: Output, shards: list[Shard], monkeypatch: pytest.MonkeyPatch) -> None:
    rows = ledger(output, shards, Manifest.of())
    with monkeypatch.context() as patched:
        many(output, patched)
        watch = Watch(output)
        told = watch.look()
        assert told is not None and (told.planned, told.dataset.shards, told.exact) == (3, 0, False)
        Segments(output).append(rows.only([shards[0].url]))
        Segments(output).append(rows.only([shards[2].url, shards[0].url]))
        told = watch.look()
        assert told is not None and (told.dataset.shards, told.dataset.rows, told.left) == (2, 8, 1)
        assert told.as_json()["exact"] is False and not told.complete
    told = status(output, exact=True)
    assert told is not None and (told.dataset.rows, told.exact) == (8, True)


def test_status_says_who_is_at_work(output: Output, shards: list[Shard]) -> None:
    with shared(output):
        told = status(output)
        assert told is not None and [run["pid"] for run in told.as_json()["at_work"]] == [os.getpid()]
    told = status(output)
    assert told is not None and told.as_json()["at_work"] == []
