"""JPEG bytes to the model's pixels, on one core, against Pillow as the reference's preprocessing uses it.

The limit is decoding alone: what libjpeg-turbo takes to fill the picture at its full size, nothing resized.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, get_args

import benchkit
import numpy as np
import torch
import web_pairs
from benchkit import Row, expect
from clipmill.clipmodel.config import Decoding
from clipmill.clipmodel.preprocess import Preprocess
from PIL import Image

SIZES = ((512, 384), (1500, 1000))
SIDE = 224
ROUNDS = 7


def measure(quick: bool) -> list[Row]:
    torch.set_num_threads(1)
    counts = {size: 2 if quick else 60_000_000 // (size[0] * size[1]) for size in SIZES}
    return [row for size, count in counts.items() for row in _rows(size, count, 1 if quick else ROUNDS)]


def _rows(size: tuple[int, int], count: int, rounds: int) -> list[Row]:
    files = [web_pairs.jpeg(seed, size) for seed in range(count)]
    ours = Preprocess(SIDE)
    what = f"decode {size[0]}×{size[1]} to {SIDE} px, one core"
    expect(all(np.array_equal(ours(file), _with_pillow(file)) for file in files), f"{what}: other pixels than Pillow's")
    ways = {way: Preprocess(SIDE, decoding=way) for way in get_args(Decoding)}
    turns = {"decoding alone": _whole, "Pillow": _with_pillow, **ways}
    rates = benchkit.in_turn({name: partial(_rate, call, files) for name, call in turns.items()}, rounds)
    rows = [(what, {"ours": rates["exact"], "Pillow": rates["Pillow"]})]
    rows += [(f"{what}, --decode {way}", {"ours": rates[way], "exact": rates["exact"]}) for way in ("close", "fast")]
    note = f"{sum(map(len, files)) / len(files) / 1000:.0f} kB each"
    return [
        benchkit.compared(name, "images/s", row, limit=rates["decoding alone"], limit_is="decoding alone", note=note)
        for name, row in rows
    ]


def _rate(call: Callable[[bytes], Any], files: Sequence[bytes]) -> float:
    started = time.process_time()
    for file in files:
        call(file)
    return len(files) / (time.process_time() - started)


def _whole(data: bytes) -> None:
    Image.open(io.BytesIO(data)).load()


def _with_pillow(data: bytes) -> np.ndarray:
    """torchvision's Resize(bicubic), CenterCrop and convert, as their code comes to on a Pillow image."""
    image = Image.open(io.BytesIO(data))
    width, height = image.size
    if width <= height:
        image = image.resize((SIDE, int(SIDE * height / width)), Image.Resampling.BICUBIC)
    else:
        image = image.resize((int(SIDE * width / height), SIDE), Image.Resampling.BICUBIC)
    left, top = round((image.width - SIDE) / 2.0), round((image.height - SIDE) / 2.0)
    return np.asarray(image.crop((left, top, left + SIDE, top + SIDE)).convert("RGB"))


if __name__ == "__main__":
    benchkit.main(measure)
