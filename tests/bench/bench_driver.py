"""What the driver costs: a thousand workers through Ray and in simulated time, up to a million shards; its memory and
its longest pause; what resuming, ending and `status` take.

CLIPMILL_BENCH_SHARDS says how many; a million take a quarter of an hour, and a gigabyte where temporary files are.
"""

from __future__ import annotations

import os
import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import benchkit
import psutil
import ray
from benchkit import Row, Spread, expect
from clipmill.pipeline.dataset.claims import shared
from clipmill.pipeline.dataset.layout import SUCCESS, part_path
from clipmill.pipeline.dataset.ledger import ledger
from clipmill.pipeline.dataset.manifest_files import segments_of, write_manifest
from clipmill.pipeline.dataset.output import Output
from clipmill.pipeline.dataset.plan import Fingerprint, freeze
from clipmill.pipeline.dataset.summary import status
from clipmill.pipeline.dataset.totals import Totals
from clipmill.pipeline.records import Shard
from clipmill.pipeline.running.cluster import connected
from clipmill.pipeline.running.driver import run_shards
from clipmill.pipeline.running.events import Event, ShardDone, ShardFailed, WorkersStarted
from clipmill.pipeline.running.manifest_keeper import ManifestKeeper
from clipmill.pipeline.running.order import spread
from clipmill.pipeline.running.placement import Placement
from clipmill.pipeline.running.sources import Ahead

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "kit"))
import fleet as fleet_module
from fleet import fleet, real_stats
from simulated import Kind, simulated

PRINT = Fingerprint("fake", "none", "0" * 64, "none", "fp32", "float16", "none", "uid:string", "images and texts")
BAD: list[Kind] = ["starts", "starts", "fails", "fails", "fails", "hangs", "hangs", "slow", "slow", "slow"]
A_MACHINE = 8  # workers


def shards_of(count: int) -> list[Shard]:
    return [Shard(f"s3://bucket/pairs/{i:07d}.tar", 520_000_000 + i, f"{i:032x}") for i in range(count)]


class Watched:
    """A run: how many shards, how fast, memory on the way, and how long the loop does not look up at most: from one
    event, or turn, to the next. In simulated time many turns may pass without an event."""

    def __init__(self, count: int) -> None:
        self._each, self._me = count // 10, psutil.Process()
        self.done = 0
        self.memory: list[float] = []  # MiB
        self.pause = self.work = self.seconds = self.cpu = 0.0
        self._last: tuple[float, float] | None = None  # since the first worker is there: clock, processor

    def run(self, events: Iterable[Event], see: Callable[[Event], None]) -> None:
        for event in events:
            see(event)
            if isinstance(event, WorkersStarted):
                began = self._last = time.monotonic(), time.thread_time()
            self.looked()
            if isinstance(event, ShardDone):
                self.done += 1
                if self.done % self._each == 0:
                    self.memory.append(self._me.memory_info().rss / 2**20)
        assert self._last is not None
        self.seconds, self.cpu = self._last[0] - began[0], self._last[1] - began[1]

    def looked(self) -> None:
        """The loop's thread is here."""
        if self._last is not None:
            now = time.monotonic(), time.thread_time()
            self.pause, self.work = max(self.pause, now[0] - self._last[0]), max(self.work, now[1] - self._last[1])
            self._last = now


def through_ray(count: int, workers: int) -> list[Row]:
    """Calls and answers are Ray's; the workers are in four processes, which take as much of the CPUs as the driver."""
    watched = Watched(count)
    with tempfile.TemporaryDirectory() as folder, connected("local"):
        ray.cloudpickle.register_pickle_by_value(fleet_module)
        output = prepared(folder)
        with fleet(Path(folder), 0.5, hosts=4), ManifestKeeper(output) as keeper:
            placement = Placement(workers, 1, 0.0)
            watched.run(run_shards(shards_of(count), object, placement), keeper.see)  # type: ignore[arg-type]
    expect(watched.done == count, f"driver: {watched.done:,} shards of {count:,}")
    name = f"driver, {workers:,} workers through Ray"
    return [
        Row(f"{name}", "shards/s", Spread.of([count / watched.seconds])),
        Row(f"{name}: its own thread", "µs a shard", Spread.of([watched.cpu / count * 1e6])),
        _pause(name, watched),
    ]


def in_simulation(count: int, workers: int) -> list[Row]:
    """A run without Ray and without work: plan, claims, driver, manifest, the end; then again, and status."""
    watched, draw, totals = Watched(count), random.Random(0), Totals()
    with tempfile.TemporaryDirectory() as folder:
        output = prepared(folder)
        plan = freeze(output, PRINT, shards_of(count))
        with shared(output) as claims, ManifestKeeper(output) as keeper:
            claims.plan(spread(plan.listed))

            def see(event: Event) -> None:
                keeper.see(event)
                if isinstance(event, ShardDone):
                    claims.done(event.shard)
                    totals.add(event.stats)

            stats = partial(real_stats, draw=draw)
            with Ahead(claims) as source, simulated(["good"] * workers, A_MACHINE, stats) as cluster:
                cluster.turned = watched.looked
                watched.run(run_shards(source, object, Placement(workers, 1, 1.0)), see)  # type: ignore[arg-type]
        for shard in plan.shards:  # workers make them meanwhile, elsewhere: here the loop would wait for the journal
            Path(folder, part_path(shard.part_name)).touch()
        expect(watched.done == count == totals.shards, f"driver: {watched.done:,} shards of {count:,}")
        end, peak = timed(partial(close, output, plan.shards, keeper))
        resume, _ = timed(lambda: expect(not resumed(output, count), "driver: shards left"))
        looked, _ = timed(lambda: expect((told := status(output)) is not None and told.complete, "driver: status"))
    memory, name = watched.memory, f"driver, {count:,} shards"
    first = f"MiB after a tenth of {count:,} shards"
    return [
        Row(f"{name}, simulated workers", "shards/s", Spread.of([count / watched.seconds])),
        _pause(name, watched),
        Row("driver's memory at the end", "MiB", Spread.of(memory[-1:]), Spread.of(memory[:1]), first),
        Row(f"{name}: accounting for all", "s", Spread.of([end]), note=f"{peak:,.0f} MiB at most"),
        Row(f"{name}: planning a resume", "s", Spread.of([resume])),
        Row(f"{name}: status", "s", Spread.of([looked])),
    ]


def _pause(name: str, watched: Watched) -> Row:
    note = f"{watched.pause * 1e3:,.0f} with what other threads and programs took"
    return Row(f"{name}: longest pause, work of its own thread", "ms", Spread.of([watched.work * 1e3]), note=note)


def with_bad_workers(count: int, workers: int) -> list[Row]:
    """Ten of them are bad, each on a machine of its own: every shard is done; what that costs."""
    kinds: list[Kind] = ["good"] * workers
    for number, kind in enumerate(BAD):
        kinds[number * workers // len(BAD)] = kind
    done = failed = 0
    with simulated(kinds, A_MACHINE) as cluster:
        for event in run_shards(shards_of(count), object, Placement(workers, 1, 1.0)):  # type: ignore[arg-type]
            done += isinstance(event, ShardDone)
            failed += isinstance(event, ShardFailed)
    expect((done, failed) == (count, 0), f"driver: {done:,} shards of {count:,} done, {failed:,} failed")
    lost = cluster.lost / (cluster.lost + cluster.used)
    return [Row(f"driver, {count:,} shards, 10 of {workers:,} workers bad: lost", "% of work", Spread.of([100 * lost]))]


def prepared(folder: str) -> Output:
    output = Output.at(folder).prepare()
    Path(folder, "data").mkdir()
    return output


def close(output: Output, planned: list[Shard], keeper: ManifestKeeper) -> None:
    segments = segments_of(output)
    manifest = ledger(output, planned, keeper.unsaved)
    expect(manifest.totals.shards == len(keeper.urls) == len(planned), "driver: parts are missing in the manifest")
    write_manifest(output, manifest, segments)
    output.write(SUCCESS, b"")


def resumed(output: Output, count: int) -> list[Shard]:
    """What a second run would have to do."""
    committed = output.parts()
    return [
        shard for shard in freeze(output, PRINT, shards_of(count), committed).listed if shard.part_name not in committed
    ]


def timed(call: Callable[[], None]) -> tuple[float, float]:
    """Seconds, and the most memory that the process has had so far, in MiB."""
    began = time.monotonic()
    call()
    return time.monotonic() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def measure(quick: bool) -> list[Row]:
    count, workers = (2_000, 100) if quick else (int(os.environ.get("CLIPMILL_BENCH_SHARDS", 100_000)), 1000)
    rows = through_ray(500, 20) if quick else through_ray(min(count, 50_000), workers)
    return rows + in_simulation(count, workers) + with_bad_workers(count, workers)


if __name__ == "__main__":
    benchkit.main(measure)
