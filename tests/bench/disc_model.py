"""Pictures of discs that hide each other, and a small CLIP that learns to tell them apart.

A caption names the colours of a picture, cell by cell. Hardly two pictures have the same one, so that the model has to
see which colours are where: what stays when a copy is resized, compressed or cropped.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from clipmill.clipmodel import weights
from clipmill.clipmodel.config import variant
from clipmill.clipmodel.model import CLIP
from clipmill.clipmodel.tokenizer import Tokenizer
from clipmill.clipmodel.train import TrainBatch, TrainConfig, Trainer
from PIL import Image, ImageDraw

SIDE, DISCS = 128, 60  # pixels, of a picture
CELLS = 4  # a side
COLOURS = ("black", "blue", "green", "sky", "red", "pink", "gold", "white")  # by 4 red + 2 green + blue
MOST_CUT = 0.05  # of a side, what training leaves out at most
CONFIG, NAME = variant("tiny"), "tiny"
BATCH, SEED = 256, 1
SHOWN_EVERY = 100  # steps
TRAINING = TrainConfig(steps=500, learning_rate=1e-3, warmup_steps=100)

Pixels = npt.NDArray[np.uint8]


def discs(random: np.random.Generator) -> Image.Image:
    """Draw discs of random colours that hide each other; small ones are many (Lee, Mumford and Huang 2001)."""
    image = Image.new("RGB", (SIDE, SIDE), tuple(random.integers(0, 256, 3).tolist()))
    draw = ImageDraw.Draw(image)
    base = random.integers(0, 256, 3)
    radii = np.sort(4 * random.pareto(1.5, DISCS) + 4)[::-1].clip(max=SIDE / 2)
    places = random.uniform(0, SIDE, (DISCS, 2))
    colours = np.clip(base + random.normal(0, 60, (DISCS, 3)), 0, 255).astype(int)
    for radius, (x, y), colour in zip(radii.tolist(), places.tolist(), colours.tolist(), strict=True):
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=tuple(colour))
    return image


def caption(pixels: Pixels) -> str:
    """Name the colour of each cell, row by row. A cell has red in it if it has more than the median of the picture's
    cells, and so for green and blue.

    pixels: [side, side, 3]; CELLS divides the side.
    """
    side = len(pixels) // CELLS
    means = pixels.reshape(CELLS, side, CELLS, side, 3).mean(axis=(1, 3)).reshape(-1, 3)
    has = means > np.median(means, axis=0)
    return " ".join(COLOURS[number] for number in has @ (4, 2, 1))


def _pair(seed: int) -> tuple[Pixels, str]:
    """Draw a picture, cut up to MOST_CUT of each side, and describe what is left."""
    random = np.random.default_rng((seed, SEED))  # the benchmark's pictures have one number
    image = discs(random)
    width, height = SIDE * (1 - random.uniform(0, MOST_CUT, 2))
    left, top = random.uniform(0, 1, 2) * (SIDE - width, SIDE - height)
    size = CONFIG.vision.image_size
    shown = image.resize((size, size), Image.Resampling.BICUBIC, box=(left, top, left + width, top + height))
    pixels = np.asarray(shown)
    return pixels, caption(pixels)


def _batches(pool: ProcessPoolExecutor, steps: int) -> Iterator[TrainBatch]:
    tokenizer = Tokenizer(CONFIG.text.vocab_size, CELLS * CELLS + 2)
    drawn = _drawn(pool, 0)
    for step in range(steps):
        following = _drawn(pool, step + 1)  # while the model learns from this one
        pixels, captions = zip(*drawn, strict=True)
        drawn = following
        yield TrainBatch(torch.from_numpy(np.stack(pixels)), tokenizer(captions))


def _drawn(pool: ProcessPoolExecutor, step: int) -> Iterator[tuple[Pixels, str]]:
    return pool.map(_pair, range(step * BATCH, (step + 1) * BATCH), chunksize=BATCH // 4)


def train(out: Path, training: TrainConfig = TRAINING) -> None:
    """Train the model on pictures of which each is shown once, and write its weights. Tell how far it is."""
    began = time.monotonic()
    torch.manual_seed(SEED)
    trainer = Trainer(CLIP(CONFIG), training)
    with ProcessPoolExecutor(2) as pool:
        for batch in _batches(pool, training.steps):
            loss = trainer.step(batch)
            if trainer.step_number % SHOWN_EVERY == 0:
                seconds = time.monotonic() - began
                print(f"training, step {trainer.step_number}: loss {loss:.3f}, {seconds:.0f} s", flush=True)
    weights.save(trainer.clip.eval(), out, variant=NAME)
