"""What a run has committed is in the manifest before the run ends, and takes little memory until then."""

from __future__ import annotations

import threading
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable

import pytest
from clipmill.pipeline.dataset.manifest import Manifest
from clipmill.pipeline.dataset.manifest_files import Segments, read_manifest, segments_of, write_manifest
from clipmill.pipeline.dataset.output import Output
from clipmill.pipeline.errors import InfrastructureError, OutputError
from clipmill.pipeline.records import Shard, ShardStats
from clipmill.pipeline.running.events import Rows, ShardDone
from clipmill.pipeline.running.manifest_keeper import ManifestKeeper


def done(number: int, rows: int = 4) -> ShardDone:
    url = f"s3://bucket/pairs/{number:07d}.tar"
    seconds = dict.fromkeys(("read", "decode", "encode", "write", "commit", "worker", "total"), number / 7)
    return ShardDone(Shard(url), ShardStats(url, rows, rows, Counter({"decode: x": 1}), seconds, 99, seconds, seconds))


def soon(holds: Callable[[], bool]) -> bool:
    end = time.monotonic() + 20
    while not holds() and time.monotonic() < end:
        time.sleep(0.01)
    return holds()


def test_every_part_is_noted_in_the_order_of_their_ends(output: Output) -> None:
    events = [done(number) for number in range(2500)]
    with ManifestKeeper(output) as keeper:
        for event in events:
            keeper.see(event)
        assert len(read_manifest(output)) == 0  # the time has not come
    assert sorted(keeper.urls.to_pylist()) == sorted(event.shard.url for event in events) and len(keeper.unsaved) == 0
    assert list(read_manifest(output)) == [event.stats for event in events] and len(segments_of(output)) == 1


def test_parts_are_put_into_the_manifest_while_the_run_goes_on(output: Output) -> None:
    write_manifest(output, Manifest.of([done(1, rows=3).stats, done(2, rows=3).stats]))
    with ManifestKeeper(output, seconds=0.05) as keeper:
        keeper.see(done(2))
        keeper.see(done(5))
        assert soon(lambda: len(read_manifest(output)) == 4)
        assert [(stats.url[-6:], stats.rows) for stats in read_manifest(output).latest()] == [
            ("01.tar", 3),
            ("02.tar", 4),
            ("05.tar", 4),
        ]


def test_a_part_has_the_name_that_the_plan_gives_it(output: Output) -> None:
    with ManifestKeeper(output) as keeper:
        event = done(1)
        keeper.see(ShardDone(Shard(event.shard.url, named="0000001-0badcafe.parquet"), event.stats))
    assert read_manifest(output).column("part").to_pylist() == ["0000001-0badcafe.parquet"]


def test_without_news_nothing_is_written(output: Output) -> None:
    with ManifestKeeper(output, seconds=0.02) as keeper:
        keeper.see(Rows(4, 0))
    assert segments_of(output) == set()


def test_what_has_been_written_is_not_written_again(output: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    append = Segments.append

    def noted(self: Segments, manifest: Manifest) -> None:
        sizes.append(len(manifest))
        append(self, manifest)

    monkeypatch.setattr(Segments, "append", noted)
    with ManifestKeeper(output, seconds=0.02) as keeper:
        for number in range(3):
            keeper.see(done(number))
            assert soon(lambda: sum(sizes) == number + 1)  # noqa: B023
    assert sizes == [1, 1, 1]


def test_a_slow_store_holds_nobody_up(output: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    held, write = threading.Event(), Output.write

    def slow(self: Output, name: str, content: bytes) -> None:
        held.wait(20)
        write(self, name, content)

    monkeypatch.setattr(Output, "write", slow)
    with ManifestKeeper(output, seconds=0.02) as keeper:
        began = time.monotonic()
        for number in range(3000):
            keeper.see(done(number))
        assert time.monotonic() - began < 10
        held.set()
    assert len(read_manifest(output)) == 3000


@pytest.mark.parametrize("error", [InfrastructureError("the storage keeps failing"), OutputError("denied"), OSError()])
def test_a_store_that_fails_for_a_while_ends_no_run(
    output: Output, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    tried = threading.Event()

    def fails(*_: object) -> None:
        tried.set()
        raise error

    with ManifestKeeper(output, seconds=0.02) as keeper:
        with monkeypatch.context() as patched:
            patched.setattr(Output, "write", fails)
            keeper.see(done(1))
            assert tried.wait(20)
        keeper.see(done(2))
    assert len(read_manifest(output)) == 2 == len(keeper.urls) and len(keeper.unsaved) == 0


def test_parts_that_come_faster_than_they_are_packed_are_written_and_pile_up_no_further(output: Output) -> None:
    events, end, most = [done(number) for number in range(1024)], time.monotonic() + 20, 0
    with ManifestKeeper(output, seconds=0.2) as keeper:
        while not (written := segments_of(output)) and time.monotonic() < end:
            for event in events:
                keeper.see(event)
            most = max(most, len(keeper._recent))
    assert written
    assert most <= 8 * 1024


def test_what_could_not_be_written_at_all_is_known_at_the_end(output: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise OSError

    monkeypatch.setattr(Output, "write", fails)
    with ManifestKeeper(output) as keeper:
        keeper.see(done(1))
    assert list(keeper.unsaved) == [done(1).stats] and keeper.urls.to_pylist() == [done(1).shard.url]


def test_a_part_takes_little_memory(output: Output) -> None:
    """Python's objects take two thousand bytes a part and more."""
    with ManifestKeeper(output) as keeper:
        keeper.see(done(0))  # what is imported meanwhile does not count
    tracemalloc.start()
    try:
        with ManifestKeeper(output) as keeper:
            for number in range(10_240):
                keeper.see(done(number))
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken < 30 * 10_240
