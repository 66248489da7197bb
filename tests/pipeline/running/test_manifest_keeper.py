"""What a run has committed is in the manifest before the run ends, and takes little memory until then."""

from __future__ import annotations

import tracemalloc
from collections import Counter

import pytest
from clipmill.pipeline.dataset.manifest import Manifest, read_manifest, write_manifest
from clipmill.pipeline.dataset.output import Output
from clipmill.pipeline.errors import InfrastructureError, OutputError
from clipmill.pipeline.records import Shard, ShardStats
from clipmill.pipeline.running.events import Rows, ShardDone
from clipmill.pipeline.running.manifest_keeper import ManifestKeeper


def done(number: int, rows: int = 4) -> ShardDone:
    url = f"s3://bucket/pairs/{number:07d}.tar"
    seconds = dict.fromkeys(("read", "decode", "encode", "write", "commit", "worker", "total"), number / 7)
    return ShardDone(Shard(url), ShardStats(url, rows, rows, Counter({"decode: x": 1}), seconds, 99, seconds, seconds))


def test_every_part_is_noted_in_the_order_of_their_ends(output: Output) -> None:
    keeper = ManifestKeeper(output)
    events = [done(number) for number in range(2500)]
    for event in events:
        keeper.see(event)
    assert list(keeper.manifest) == [event.stats for event in events]
    assert len(read_manifest(output)) == 0  # the time has not come


def test_parts_are_put_into_the_manifest_while_the_run_goes_on(output: Output) -> None:
    write_manifest(output, Manifest.of([done(1, rows=3).stats, done(2, rows=3).stats]))
    keeper = ManifestKeeper(output, seconds=0.0)
    keeper.see(done(2))
    keeper.see(done(5))
    assert [(stats.url[-6:], stats.rows) for stats in read_manifest(output)] == [
        ("01.tar", 3),
        ("02.tar", 4),
        ("05.tar", 4),
    ]


def test_without_news_nothing_is_written(output: Output) -> None:
    ManifestKeeper(output, seconds=0.0).see(Rows(4, 0))
    assert len(read_manifest(output)) == 0


@pytest.mark.parametrize("error", [InfrastructureError("the storage keeps failing"), OutputError("denied"), OSError()])
def test_a_store_that_fails_for_a_while_ends_no_run(
    output: Output, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    keeper = ManifestKeeper(output, seconds=0.0)

    def fails(*_: object) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(Output, "write", fails)
        keeper.see(done(1))
    keeper.see(done(2))
    assert len(read_manifest(output)) == 2


def test_a_part_takes_little_memory(output: Output) -> None:
    """Python's objects take two thousand bytes a part and more."""
    keeper = ManifestKeeper(output)
    tracemalloc.start()
    try:
        for number in range(10_240):
            keeper.see(done(number))
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken < 300 * 10_240
