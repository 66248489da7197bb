"""`make bench-gpu`: the encoders on a GPU in bfloat16, and whole runs; what `make bench` measures on CPU cores.

The limit of a tower is a bfloat16 matrix product of the same rounds, that of a run the encoder alone. Without a GPU it
says so; the quick mode then goes through the same code on the CPU.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import benchkit
import torch
from benchkit import Row, Spread, expect
from clipmill.clipmodel import weights
from clipmill.clipmodel.config import VARIANTS, CLIPConfig
from clipmill.clipmodel.model import CLIP
from clipmill.pipeline.embedding.encoder import ClipEncoder
from contenders import Where, shallow
from encoder_alone import encoder_alone
from flow_rows import both_ways, expect_all
from processes import Pace, clipmill, pace
from random_models import random_clip
from tower_rows import images, towers
from web_pairs import PairsSpec, write_shards

MODELS = ("ViT-B/32", "ViT-B/16", "ViT-L/14", "ViT-H-14")
BATCH = 256
ROUNDS = 3


def measure(quick: bool) -> list[Row]:
    where = Where("cuda" if torch.cuda.is_available() else "cpu", "bf16")
    rows = []
    for variant in MODELS[:1] if quick else MODELS:
        config = shallow(VARIANTS[variant]) if quick else VARIANTS[variant]
        size, rounds = (2, 1) if quick else (BATCH, ROUNDS)
        rows += towers(variant, config, size, rounds, where)
        model = random_clip(config)
        rows.append(_agreement(variant, config, model, size, where))
        rows += _run(variant, model, PairsSpec(1, 8) if quick else PairsSpec(9, 2000), rounds, where)
    return rows


def _agreement(variant: str, config: CLIPConfig, model: CLIP, count: int, where: Where) -> Row:
    """How far bfloat16 turns an embedding."""
    pixels = images(config, count)
    full, _ = ClipEncoder(model.to(where.device), where.device, "fp32", count).encode(pixels, [])
    half, _ = ClipEncoder(model, where.device, where.precision, count).encode(pixels, [])
    cosines = (full * half).sum(axis=1)
    expect(cosines.min() > 0.99, f"{variant}: {where.precision} has another answer (cosine {cosines.min():.4f})")
    return Row(f"{variant} {where.precision} against fp32", "cosine", Spread.of(cosines.tolist()), note="least in JSON")


def _run(variant: str, model: CLIP, spec: PairsSpec, rounds: int, where: Where) -> list[Row]:
    what = f"{variant} in {where.precision}, shards to Parquet"
    paces: dict[str, list[Pace]] = {"ours": []}
    with tempfile.TemporaryDirectory() as folder:
        shards = write_shards(spec, Path(folder) / "shards")
        path = Path(folder) / "model.safetensors"
        weights.save(model, path, variant=variant)
        options = ("--precision", where.precision, *(("--gpus-per-worker", "1") if where.device == "cuda" else ()))
        start = clipmill(str(path), *options)

        def turn() -> float:
            paces["ours"].append(pace(start, shards, spec.pairs_a_shard, 0 if len(shards) == 1 else 1))
            return paces["ours"][-1].steady

        alone = encoder_alone(weights.load(str(path), device=where.device), shards[0], where)
        alone()  # warm
        rates = dict(benchkit.in_turn({"encoder": alone, "ours": turn}, rounds))
    for each in paces["ours"]:
        expect_all(each, spec)
    note = f"bottleneck: {json.loads(paces['ours'][-1].many.out)['run']['bottleneck']}"
    limit = rates.pop("encoder")
    row = benchkit.compared(f"{what}, steady", "pairs/s", rates, limit=limit, limit_is="encoder alone", note=note)
    return [row, *both_ways(what, paces)]


if __name__ == "__main__":
    if not torch.cuda.is_available() and not benchkit.is_quick() and "--quick" not in sys.argv:
        sys.exit("no GPU here: make bench-gpu needs one that torch can use")
    benchkit.main(measure)
