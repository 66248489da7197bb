"""Peak resident memory of the driver and of the largest worker: as flat as the data set's size grows?

Each run is from the command line with the `tiny` model; the share column is the smallest run's memory over this one's.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import benchkit
from benchkit import Row, Spread, expect
from processes import Ran, clipmill, run
from web_pairs import PairsSpec, write_shards


def measure(quick: bool) -> list[Row]:
    specs = (
        [PairsSpec(2, 10)]
        if quick
        else [PairsSpec(8, 500), PairsSpec(32, 500), PairsSpec(2, 2_000), PairsSpec(2, 8_000)]
    )
    found = {spec: _run(spec) for spec in specs}
    smallest = next(iter(found.values()))
    rows = []
    for spec, ran in found.items():
        where = f"{spec.shards} shards of {spec.pairs_a_shard:,}"
        rows.append(_row(f"worker, {where}", ran.worker_mib, smallest.worker_mib))
        rows.append(_row(f"driver, {where}", ran.driver_mib, smallest.driver_mib))
    return rows


def _run(spec: PairsSpec) -> Ran:
    with tempfile.TemporaryDirectory() as folder:
        shards = write_shards(spec, Path(folder) / "shards")
        ran = run(clipmill("tiny")(shards, Path(folder) / "out"))
    expect(ran.driver_mib > 0, "memory: the run was over before its memory was looked at")
    return ran


def _row(what: str, mib: float, smallest: float) -> Row:
    one = (mib, mib, mib)
    limit = Spread(smallest, smallest, smallest)
    share = Spread.of([smallest / mib]) if mib else None
    return Row(f"peak memory: {what}", "MiB", Spread(*one), limit, "of the smallest run", share)


if __name__ == "__main__":
    benchkit.main(measure)
