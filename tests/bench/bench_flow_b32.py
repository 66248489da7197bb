"""Shards to Parquet with ViT-B/32, from the command line, against clip-retrieval with the same shards and weights.

The limit is the encoder alone: both towers over one shard's pixels and captions, decoded before. clip-retrieval runs
in an environment of its own, which `make bench-peers` builds; without it that column says so.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import benchkit
import numpy as np
import pyarrow.parquet as pq
import torch
from benchkit import Row, expect
from clipmill.clipmodel import weights
from clipmill.clipmodel.config import VARIANTS
from contenders import Where, shallow
from encoder_alone import encoder_alone
from flow_rows import both_ways, expect_all
from processes import Command, Pace, Start, clipmill, pace, run
from random_models import random_clip
from web_pairs import PairsSpec, write_shards

VARIANT = "ViT-B-32"  # open_clip's, with GELU
PEER = Path(os.environ.get("CLIPMILL_BENCH_PEERS", "build/peers")) / "clip-retrieval"
ROUNDS = 2
FEW = 2  # shards of the short run: as many as there are workers, who all have to start


def measure(quick: bool) -> list[Row]:
    spec = PairsSpec(1, 8) if quick else PairsSpec(10, 100)
    config = shallow(VARIANTS[VARIANT]) if quick else VARIANTS[VARIANT]
    note = "" if (PEER / ".built").exists() else "clip-retrieval not built: make bench-peers"
    paces: dict[str, list[Pace]] = {"ours": []}
    with tempfile.TemporaryDirectory() as folder:
        shards = write_shards(spec, Path(folder) / "shards")
        model, published = Path(folder) / "b32.safetensors", Path(folder) / "b32.pt"
        made = random_clip(config)
        weights.save(made, model, variant=VARIANT)
        torch.save(made.state_dict(), published)
        starts = {"ours": clipmill(str(model))}
        if not quick and not note:
            starts["clip-retrieval"] = partial(clip_retrieval, published)
            expect_same(starts, shards[:1], Path(folder))
            paces["clip-retrieval"] = []
        alone = encoder_alone(weights.load(str(model)), shards[0], Where())

        def turn(name: str) -> float:
            paces[name].append(pace(starts[name], shards, spec.pairs_a_shard, 0 if quick else FEW))
            return paces[name][-1].steady

        alone()  # warm
        turns = {"encoder": alone, **{name: partial(turn, name) for name in starts}}
        rates = dict(benchkit.in_turn(turns, 1 if quick else ROUNDS))
    for each in paces["ours"]:
        expect_all(each, spec)
    what = "ViT-B/32, shards to Parquet"
    limit = rates.pop("encoder")
    row = benchkit.compared(f"{what}, steady", "pairs/s", rates, limit=limit, limit_is="encoder alone", note=note)
    return [row, *both_ways(what, paces)]


def clip_retrieval(published: Path, shards: Sequence[Path], out: Path) -> Command:
    """Its own command line. Batches and workers as suit two cores: larger ones were slower."""
    settings = {
        "input_dataset": f"{shards[0].parent}/{{{shards[0].stem}..{shards[-1].stem}}}.tar",
        "output_folder": out,
        "input_format": "webdataset",
        "batch_size": 32,
        "num_prepro_workers": 1,
        "clip_model": f"open_clip:{VARIANT}/{published}",
        "enable_wandb": False,
    }
    options = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    return Command([str(PEER / "bin" / "clip-retrieval"), "inference", *options])


def expect_same(starts: dict[str, Start], shards: Sequence[Path], folder: Path) -> None:
    """That both embed the same images to the same vectors, as far as float16 goes."""
    for name, start in starts.items():
        run(start(shards, folder / name))
    mine = pq.read_table(next((folder / "ours").glob("data/*.parquet")), columns=["key", "image_embedding"]).to_pydict()
    ours = dict(zip(mine["key"], np.array(mine["image_embedding"], dtype=np.float32), strict=True))
    their = folder / "clip-retrieval"
    keys = pq.read_table(next((their / "metadata").glob("*.parquet")))["image_path"].to_pylist()
    vectors = np.load(next((their / "img_emb").glob("*.npy"))).astype(np.float32)
    expect(set(keys) == set(ours), "clip-retrieval embedded other pairs")
    worst = min(float(ours[key] @ vector) for key, vector in zip(keys, vectors, strict=True))
    expect(worst > 0.999, f"clip-retrieval has other embeddings (cosine {worst:.4f})")


if __name__ == "__main__":
    benchkit.main(measure)
