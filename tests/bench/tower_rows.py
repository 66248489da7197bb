"""One model's towers, each implementation in turn, beside the matrix peak of the same device and precision."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

import benchkit
import machine
import numpy as np
import torch
from benchkit import Row, expect
from clipmill.clipmodel.config import CLIPConfig
from contenders import Contenders, Encode, Where, contenders, image_gflop, text_gflop

_AGREE = {"fp32": 0.99999, "bf16": 0.999, "fp16": 0.999}  # least cosine
TEXTS = ("ViT-B/32", "ViT-B-16-SigLIP")  # whose text towers are measured, too
_PEAK = {"cpu": 2048, "cuda": 8192}  # side of the square matrices


def towers(variant: str, config: CLIPConfig, size: int, rounds: int, where: Where) -> list[Row]:
    """A row for the images, in one batch of `size`, and for some variants one for texts that fill the context."""
    found = contenders(config, size, where)
    rows = [_row(found, f"{variant} image tower", image_gflop(config), images(config, size), [], rounds, where)]
    if variant in TEXTS:
        length = config.text.context_length
        what = f"{variant} text tower, {length} tokens"
        rows.append(_row(found, what, text_gflop(config, length), [], _texts(config, size), rounds, where))
    return rows


def _row(
    found: Contenders,
    what: str,
    gflop: float,
    pixels: list[np.ndarray],
    texts: list[np.ndarray],
    rounds: int,
    where: Where,
) -> Row:
    answers = {name: torch.cat(encode(pixels, texts)) for name, encode in found.encode.items()}  # and a warm-up
    for name, answer in answers.items():
        worst = float((answer * answers["ours"]).sum(dim=-1).min())
        expect(worst > _AGREE[where.precision], f"{what}: {name} has another answer (cosine {worst:.5f})")

    def peak() -> float:
        dtype = torch.bfloat16 if where.precision == "bf16" else torch.float32
        return machine.peak_gflops(_PEAK[where.device], where.device, dtype) / gflop

    turns = {name: partial(_rate, encode, pixels, texts) for name, encode in found.encode.items()}
    rates = dict(benchkit.in_turn({"peak": peak, **turns}, rounds))
    limit = rates.pop("peak")
    unit = "images/s" if pixels else "texts/s"
    return benchkit.compared(what, unit, rates, limit=limit, limit_is=f"matrix peak, {gflop:.1f} GFLOP each")


def _rate(encode: Encode, pixels: Sequence[np.ndarray], texts: Sequence[np.ndarray]) -> float:
    started = time.perf_counter()
    encode(pixels, texts)
    return len(pixels or texts) / (time.perf_counter() - started)


def images(config: CLIPConfig, count: int) -> list[np.ndarray]:
    size = config.vision.image_size
    return list(np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8))


def _texts(config: CLIPConfig, count: int) -> list[np.ndarray]:
    """Distinct captions that fill the context."""
    text = config.text
    ids = np.random.default_rng(1).integers(1, text.vocab_size - 2, (count, text.context_length), dtype=np.int32)
    ids[:, 0], ids[:, -1] = text.vocab_size - 2, text.vocab_size - 1
    return list(ids)
