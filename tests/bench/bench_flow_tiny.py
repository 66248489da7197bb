"""Shards to Parquet with the `tiny` model, from the command line, against a hand-written Ray Data pipeline.

The limit is what the stages' costs allow: the machine's cores over the core-seconds that a pair takes, each stage
measured alone on one core. See processes.py for what steady means.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import benchkit
import machine
import stages
from benchkit import Row
from clipmill.clipmodel import load
from clipmill.pipeline import EmbedJob
from clipmill.pipeline.embedding.decode import Decoder
from clipmill.pipeline.embedding.encoder import ClipEncoder
from flow_rows import both_ways, expect_all
from processes import Command, Pace, Start, clipmill, pace
from web_pairs import PairsSpec, write_shards

PEER = Path(__file__).parent / "peers" / "ray_data.py"
ROUNDS = 2
FEW = 2  # shards of the short run: as many as there are workers, who all have to start


def measure(quick: bool) -> list[Row]:
    spec = PairsSpec(1, 20) if quick else PairsSpec(40, 500)
    starts = {"ours": clipmill("tiny"), "Ray Data": ray_data("together"), "Ray Data, decoding apart": ray_data("apart")}
    if quick:
        del starts["Ray Data"]
    paces: dict[str, list[Pace]] = {name: [] for name in starts}
    costs: list[stages.Costs] = []
    with tempfile.TemporaryDirectory() as folder:
        shards = write_shards(spec, Path(folder) / "shards")
        loaded = load("tiny")
        preprocess = replace(loaded.preprocess, decoding=EmbedJob.decode)
        decoder, encoder = Decoder(preprocess, loaded.tokenizer), ClipEncoder(loaded.model)

        def turn(name: str) -> float:
            # theirs take long, and fewer shards say as much
            chosen = shards if name == "ours" else shards[: (len(shards) + 1) // 2]
            paces[name].append(pace(starts[name], chosen, spec.pairs_a_shard, 0 if quick else FEW))
            return paces[name][-1].steady

        def ceiling() -> float:
            costs.append(stages.costs(shards[0], decoder, encoder, Path(folder)))
            return machine.cores() / sum(costs[-1].values())

        ceiling()  # warm
        turns = {"ceiling": ceiling, **{name: partial(turn, name) for name in starts}}
        rates = dict(benchkit.in_turn(turns, 1 if quick else ROUNDS))
    for each in paces["ours"]:
        expect_all(each, spec)
    row = benchkit.compared(
        f"tiny, shards to Parquet, steady, {spec.pairs:,} pairs",
        "pairs/s",
        rates,
        limit=rates.pop("ceiling"),
        limit_is="what the stages cost",
        note=stages.described(costs[-1]),
    )
    return [row, *both_ways("tiny, shards to Parquet", paces)]


def ray_data(how: str) -> Start:
    def start(shards: Sequence[Path], out: Path) -> Command:
        return Command([sys.executable, str(PEER), how, "tiny", str(out), *map(str, shards)])

    return start


if __name__ == "__main__":
    benchkit.main(measure)
