"""What the driver costs: shards a second over fake workers, its memory, and the planning of a resume."""

from __future__ import annotations

import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import benchkit
import psutil
import ray
from benchkit import Row, Spread, expect
from clipmill.pipeline.dataset.manifest import Manifest, ledger, write_manifest
from clipmill.pipeline.dataset.output import Output
from clipmill.pipeline.dataset.plan import Fingerprint, freeze
from clipmill.pipeline.embedding.embed_shard import OnRows
from clipmill.pipeline.records import Shard, ShardStats
from clipmill.pipeline.running.cluster import connected
from clipmill.pipeline.running.driver import run_shards
from clipmill.pipeline.running.events import ShardDone
from clipmill.pipeline.running.manifest_keeper import ManifestKeeper
from clipmill.pipeline.running.placement import Placement

SECONDS = dict.fromkeys(("read", "decode", "encode", "write", "commit", "worker", "total"), 1.5)
PRINT = Fingerprint("fake", "none", "0" * 64, "none", "fp32", "float16", "none", "uid:string", "images and texts")


@dataclass(frozen=True)
class FakeWorkers:
    """Commits a part of one byte for each shard, and does nothing else."""

    folder: Path

    def __call__(self) -> FakeWorkers:
        return self

    def embed(self, shard: Shard, on_rows: OnRows) -> ShardStats:
        (self.folder / "data" / shard.part_name).write_bytes(b"0")
        on_rows(10, 0)
        waits = dict.fromkeys(SECONDS, 0.25)
        return ShardStats(shard.url, 10, 10, seconds=SECONDS, part_bytes=1, starved=waits, blocked=waits)


def measure(quick: bool) -> list[Row]:
    count = 500 if quick else 100_000
    shards = [Shard(f"/data/{i:07d}.tar", 1000, str(i)) for i in range(count)]
    me = psutil.Process()
    with tempfile.TemporaryDirectory() as folder, connected("local"):
        ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
        output = Output.at(folder)
        output.prepare()
        (Path(folder) / "data").mkdir()
        freeze(output, PRINT, shards)
        keeper, done, memory, began = ManifestKeeper(output), 0, list[float](), time.monotonic()
        for event in run_shards(shards, FakeWorkers(Path(folder)), Placement(2, 1, 0.0)):
            keeper.see(event)
            if isinstance(event, ShardDone):
                done += 1
                if done % (count // 10) == 0:
                    memory.append(me.memory_info().rss / 2**20)
        seconds = time.monotonic() - began
        write_manifest(output, keeper.manifest)
        began = time.monotonic()
        committed = output.parts()
        planned = freeze(output, PRINT, shards, committed).shards
        todo = [shard for shard in planned if shard.part_name not in committed]
        rows = ledger(output, planned, Manifest.of()).totals.rows
        resume = time.monotonic() - began
    expect(rows == 10 * count and not todo, f"driver: {rows:,} rows of {10 * count:,}, {len(todo)} shards left")
    first = f"MiB after a tenth of {count:,} shards"
    return [
        Row("driver, fake workers, start-up included", "shards/s", Spread.of([count / seconds])),
        Row("planning a resume", "shards/s", Spread.of([count / resume])),
        Row("driver's memory at the end", "MiB", Spread.of(memory[-1:]), Spread.of(memory[:1]), first),
    ]


if __name__ == "__main__":
    benchkit.main(measure)
