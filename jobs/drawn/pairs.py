"""One drawn image-text pair, as a pure function of a seed and a number."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np

from .captions import caption, full_caption
from .paint import draw
from .scenes import Scene, sample_scene

FORMATS = {"jpg": 0.70, "png": 0.15, "webp": 0.15}  # and their shares


@dataclass(frozen=True)
class PairSpec:
    """Which endless series of pairs is meant."""

    seed: int = 0
    held_out: bool | None = False  # scenes with pairs that training never shows: none, each, or as they come
    sides: tuple[int, int] = (96, 160)  # pixels, of the shorter side
    full_captions: float = 0.2  # share of captions that mention everything; the others choose


@dataclass(frozen=True)
class Pair:
    scene: Scene
    caption: str
    image: bytes
    extension: str
    width: int
    height: int


def scene_of(spec: PairSpec, index: int) -> tuple[Scene, str]:
    """The scene and its caption, not yet drawn."""
    rng = np.random.default_rng((spec.seed, index))
    scene = sample_scene(rng, spec.held_out)
    words = caption(scene, rng)
    return scene, full_caption(scene) if rng.random() < spec.full_captions else words


def pair_of(spec: PairSpec, index: int) -> Pair:
    """The pair with its image drawn and encoded, with whatever artefacts the format brings."""
    scene, words = scene_of(spec, index)
    rng = np.random.default_rng((spec.seed, index, 1))
    short = int(rng.integers(spec.sides[0], spec.sides[1] + 1))
    long = int(short * rng.uniform(1.0, 1.5)) if rng.random() < 0.6 else short
    width, height = (long, short) if rng.random() < 0.6 else (short, long)
    image = draw(scene, width, height, rng)
    extension = str(rng.choice(list(FORMATS), p=list(FORMATS.values())))
    file = io.BytesIO()
    if extension == "png":
        image.save(file, "PNG")
    else:
        image.save(file, {"jpg": "JPEG", "webp": "WEBP"}[extension], quality=int(rng.integers(55, 96)))
    return Pair(scene, words, file.getvalue(), extension, width, height)
