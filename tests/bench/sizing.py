"""Cores, network and hours: from what a pair was measured to cost a core, and what a GPU is taken to do."""

from __future__ import annotations

from dataclasses import dataclass

SHARD = 10_000  # pairs, as img2dataset makes them

# Dense bfloat16 peak of the maker's data sheet, in TFLOP a second.
GPUS = {"A100": 312.0, "H100 SXM": 989.0}

# GFLOP a pair: an image, and a caption of 16 tokens. `bench_towers.py` and `contenders.py` count them.
MODELS = {"ViT-B/32": 10.0, "ViT-B/16": 36.3, "ViT-L/14": 164.8, "ViT-H/14": 344.3}

# Share of the peak that a model reaches: assumed, as there was no GPU to measure on.
REACHED = {"ViT-B/32": 0.25, "ViT-B/16": 0.35, "ViT-L/14": 0.5, "ViT-H/14": 0.5}

DIM = {"ViT-B/32": 512, "ViT-B/16": 512, "ViT-L/14": 768, "ViT-H/14": 1024}


@dataclass(frozen=True)
class Costs:
    """Of a pair, beside the encoder."""

    core_seconds: float
    read_bytes: float


@dataclass(frozen=True)
class Needs:
    """Of one GPU that never waits."""

    pairs_a_second: float
    cores: float
    gbit_a_second: float  # read
    shards_an_hour: float


def needs(model: str, gpu: str, costs: Costs) -> Needs:
    rate = GPUS[gpu] * 1e12 * REACHED[model] / (MODELS[model] * 1e9)
    return Needs(rate, rate * costs.core_seconds, rate * costs.read_bytes * 8 / 1e9, rate * 3600 / SHARD)


@dataclass(frozen=True)
class Whole:
    """A whole data set."""

    gpu_hours: float
    core_hours: float
    shards: int
    read_tb: float
    written_tb: float


def whole(pairs: float, model: str, gpu: str, costs: Costs) -> Whole:
    one = needs(model, gpu, costs)
    written = 2 * DIM[model] * 2 + 200  # two float16 vectors; keys, urls, captions and hashes, compressed
    return Whole(
        pairs / one.pairs_a_second / 3600,
        pairs * costs.core_seconds / 3600,
        round(pairs / SHARD),
        pairs * costs.read_bytes / 1e12,
        pairs * written / 1e12,
    )
