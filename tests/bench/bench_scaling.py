"""Two workers on two cores against one on one, from the command line; start-up does not count."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import benchkit
from benchkit import Row, Spread
from flow_rows import expect_all
from processes import Pace, clipmill, pace
from web_pairs import PairsSpec, write_shards

ROUNDS = 2


def measure(quick: bool) -> list[Row]:
    cores = sorted(os.sched_getaffinity(0))[:2]
    spec = PairsSpec(2, 10) if quick else PairsSpec(10, 500)
    paces: dict[int, list[Pace]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as folder:
        shards = write_shards(spec, Path(folder) / "shards")

        def turn(workers: int) -> float:
            paces[workers].append(_pace(cores[:workers], workers, shards, spec, 0 if quick else 2))
            return paces[workers][-1].steady

        names = {"ours": 2, "one on one core": 1}
        turns = {name: partial(turn, workers) for name, workers in names.items()}
        rates = benchkit.in_turn(turns, 1 if quick else ROUNDS)
    for found in paces.values():
        for each in found:
            expect_all(each, spec)
    two, one = rates["ours"], rates["one on one core"]
    share = benchkit.ratio(two, [2 * each for each in one])
    limit = Spread.of(2 * each for each in one)
    return [
        Row(
            "tiny, 2 workers on 2 cores, steady",
            "pairs/s",
            Spread.of(two),
            limit,
            "twice one on one core",
            share,
            {"one on one core": benchkit.ratio(two, one)},
        )
    ]


def _pace(cores: Sequence[int], workers: int, shards: Sequence[Path], spec: PairsSpec, few: int) -> Pace:
    resources = f'{{"CPU": {workers}}}'
    start = clipmill("tiny", "--workers", str(workers), cores=cores, environment={"RAY_OVERRIDE_RESOURCES": resources})
    return pace(start, shards, spec.pairs_a_shard, few)


if __name__ == "__main__":
    benchkit.main(measure)
