"""Captions from the web through the text tower, and pairs through both, against padding every caption to 77 tokens.

A pair costs an image and a caption. Each is measured on as many as it needs: padded captions cost the same whatever
they say, ours are sorted by length over a window, as in a shard. The limit counts each caption's own tokens, and equal
captions once.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import benchkit
import machine
import numpy as np
import torch
import web_pairs
from benchkit import Row, expect
from clipmill.clipmodel.config import VARIANTS
from clipmill.clipmodel.tokenizer import Tokenizer
from contenders import Encode, contenders, image_gflop, shallow, text_gflop

VARIANT = "ViT-B/32"
BATCH = 32
ROUNDS = 3


@dataclass(frozen=True)
class Sizes:
    """How many of each a round takes."""

    images: int = 32
    window: int = 600  # captions, ours
    padded: int = 32  # captions, the others'
    rounds: int = ROUNDS


def measure(quick: bool) -> list[Row]:
    sizes = Sizes(2, 20, 2, 1) if quick else Sizes()
    config = shallow(VARIANTS[VARIANT]) if quick else VARIANTS[VARIANT]
    found = contenders(config, BATCH)
    captions = list(web_pairs.captions()[: sizes.window])
    tokenizer = Tokenizer(config.text.vocab_size, config.text.context_length)
    texts = [np.asarray(tokenizer.truncate(ids), dtype=np.int32) for ids in tokenizer.encode(captions)]
    side = config.vision.image_size
    images = list(np.random.default_rng(0).integers(0, 256, (sizes.images, side, side, 3), dtype=np.uint8))

    few = texts[: sizes.padded]
    whole = {name: encode(images[:2], few)[1] for name, encode in found.encode.items()}  # and a warm-up
    for name, answer in whole.items():
        expect(bool(((answer * whole["ours"]).sum(dim=-1) > 0.99999).all()), f"pairs: {name} has another answer")
    within = found.encode["ours"]([], texts)[1][: len(few)]
    expect(bool(((within * whole["ours"]).sum(dim=-1) > 0.99999).all()), "pairs: the window changes the answer")

    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in found.encode}

    def turn(name: str) -> float:
        image, text = _seconds(found.encode[name], images, texts if name == "ours" else few)
        seconds[name].append((image, text))
        return 1 / text

    rates = benchkit.in_turn(
        {"peak": machine.peak_gflops, **{name: (lambda name=name: turn(name)) for name in found.encode}}, sizes.rounds
    )
    peak = rates["peak"]
    texts_rates = {name: rates[name] for name in found.encode}
    pairs_rates = {name: [1 / (image + text) for image, text in found] for name, found in seconds.items()}
    gflop = _text_gflop(config, texts, sizes.window)
    note = f"{np.mean([len(ids) for ids in texts]):.1f} tokens a caption"
    return [
        benchkit.compared(
            f"{VARIANT} real captions",
            "texts/s",
            texts_rates,
            limit=[each / gflop for each in peak],
            limit_is=f"matrix peak, {gflop:.2f} GFLOP each",
            note=note,
        ),
        benchkit.compared(
            f"{VARIANT} pairs with real captions",
            "pairs/s",
            pairs_rates,
            limit=[each / (gflop + image_gflop(config)) for each in peak],
            limit_is=f"matrix peak, {gflop + image_gflop(config):.1f} GFLOP each",
        ),
    ]


def _seconds(encode: Encode, images: list[np.ndarray], texts: list[np.ndarray]) -> tuple[float, float]:
    """An image and a caption."""
    started = time.perf_counter()
    encode(images, [])
    between = time.perf_counter()
    encode([], texts)
    return (between - started) / len(images), (time.perf_counter() - between) / len(texts)


def _text_gflop(config, texts: list[np.ndarray], window: int) -> float:
    """A caption, on average."""
    distinct = {ids.tobytes(): len(ids) for ids in texts}
    return sum(text_gflop(config, length) for length in distinct.values()) / len(texts)


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    benchkit.main(measure)
