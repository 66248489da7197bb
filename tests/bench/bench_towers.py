"""The image towers and the text tower in float32, against the reference and transformers with the same weights.

The limit is a float32 matrix product measured in each round. Texts are of the context's length, 77 tokens: what cutting
captions brings is in bench_pairs.py.
"""

from __future__ import annotations

import time

import benchkit
import machine
import numpy as np
import torch
from benchkit import Row, expect
from clipmill.clipmodel.config import VARIANTS, CLIPConfig
from contenders import Contenders, contenders, image_gflop, shallow, text_gflop

IMAGES = {"RN50": 32, "ViT-B/32": 32, "ViT-B/16": 16, "ViT-L/14": 4}  # a batch
ROUNDS = 5


def measure(quick: bool) -> list[Row]:
    if quick:
        return _towers("ViT-B/32", shallow(VARIANTS["ViT-B/32"]), 2, 1)
    return [row for variant, size in IMAGES.items() for row in _towers(variant, VARIANTS[variant], size, ROUNDS)]


def _towers(variant: str, config: CLIPConfig, size: int, rounds: int) -> list[Row]:
    found = contenders(config, size)
    rows = [_row(found, f"{variant} image tower", image_gflop(config), _images(found, size), [], rounds)]
    if variant == "ViT-B/32":
        length = config.text.context_length
        what = f"{variant} text tower, {length} tokens"
        rows.append(_row(found, what, text_gflop(config, length), [], _texts(found, size), rounds))
    return rows


def _row(
    found: Contenders, what: str, gflop: float, images: list[np.ndarray], texts: list[np.ndarray], rounds: int
) -> Row:
    answers = {name: torch.cat(encode(images, texts)) for name, encode in found.encode.items()}  # and a warm-up
    for name, answer in answers.items():
        expect(bool(((answer * answers["ours"]).sum(dim=-1) > 0.99999).all()), f"{what}: {name} has another answer")

    def rate(name: str) -> float:
        started = time.perf_counter()
        found.encode[name](images, texts)
        return len(images or texts) / (time.perf_counter() - started)

    def peak() -> float:
        return machine.peak_gflops() / gflop

    turns = {name: (lambda name=name: rate(name)) for name in found.encode}
    rates = dict(benchkit.in_turn({"peak": peak, **turns}, rounds))
    limit = rates.pop("peak")
    unit = "images/s" if images else "texts/s"
    return benchkit.compared(what, unit, rates, limit=limit, limit_is=f"matrix peak, {gflop:.1f} GFLOP each")


def _images(found: Contenders, count: int) -> list[np.ndarray]:
    size = found.config.vision.image_size
    rng = np.random.default_rng(0)
    return list(rng.integers(0, 256, (count, size, size, 3), dtype=np.uint8))


def _texts(found: Contenders, count: int) -> list[np.ndarray]:
    """Distinct captions that fill the context."""
    text = found.config.text
    ids = np.random.default_rng(1).integers(1, text.vocab_size - 2, (count, text.context_length), dtype=np.int32)
    ids[:, 0], ids[:, -1] = text.vocab_size - 2, text.vocab_size - 1
    return list(ids)


if __name__ == "__main__":
    benchkit.main(measure)
