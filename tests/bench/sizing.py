"""Cores, network and hours: from what a pair was measured to cost a core, and what encoders were measured to do."""

from __future__ import annotations

from dataclasses import dataclass

SHARD = 10_000  # pairs, as img2dataset makes them

# Images a second through ClipEncoder on one H200, November 2026, bf16; `make bench-gpu` measures them.
IMAGES = {"ViT-B/32": 26_060, "ViT-B/16": 12_185, "ViT-L/14": 2_901, "ViT-H/14": 1_374}

# The image's share of a pair's FLOP, with a caption of 16 tokens; see flops.py.
OF_A_PAIR = {"ViT-B/32": 0.879, "ViT-B/16": 0.967, "ViT-L/14": 0.983, "ViT-H/14": 0.972}

# Peak over that of the GPU that was measured, dense bfloat16 of the maker's data sheets: 312 and 989 TFLOP a second.
GPUS = {"A100": 312 / 989, "H100, H200": 1.0}

DIM = {"ViT-B/32": 512, "ViT-B/16": 512, "ViT-L/14": 768, "ViT-H/14": 1024}


@dataclass(frozen=True)
class Costs:
    """Of a pair, beside the encoder."""

    core_seconds: float  # where CPUs decode
    read_bytes: float
    beside_engines: float | None = None  # core-seconds where the GPU's JPEG engines do; None where not measured


@dataclass(frozen=True)
class Needs:
    """Of one GPU that never waits."""

    pairs_a_second: float
    cores: float
    cores_beside_engines: float | None
    gbit_a_second: float  # read
    shards_an_hour: float


def needs(model: str, gpu: str, costs: Costs) -> Needs:
    rate = IMAGES[model] * OF_A_PAIR[model] * GPUS[gpu]
    beside = None if costs.beside_engines is None else rate * costs.beside_engines
    gbit = rate * costs.read_bytes * 8 / 1e9
    return Needs(rate, rate * costs.core_seconds, beside, gbit, rate * 3600 / SHARD)


@dataclass(frozen=True)
class Whole:
    """A whole data set."""

    gpu_hours: float
    core_hours: float
    core_hours_beside_engines: float | None
    shards: int
    read_tb: float
    written_tb: float


def whole(pairs: float, model: str, gpu: str, costs: Costs) -> Whole:
    one = needs(model, gpu, costs)
    written = 2 * DIM[model] * 2 + 200  # two float16 vectors; keys, urls, captions and hashes, compressed
    return Whole(
        pairs / one.pairs_a_second / 3600,
        pairs * costs.core_seconds / 3600,
        None if costs.beside_engines is None else pairs * costs.beside_engines / 3600,
        round(pairs / SHARD),
        pairs * costs.read_bytes / 1e12,
        pairs * written / 1e12,
    )
