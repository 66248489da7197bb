"""Drawn scenes: coloured shapes on a background, of which the truth is known.

The shipped `tiny` model is trained on these, and the demo and the tests feed on them: an endless, licence-free
supply of image-text pairs. A scene is a small frozen record: `sample_scene` invents one, `paint.draw` paints it at any
size, `captions.caption` words it. All three are deterministic in their generator.

Coordinates are fractions of the image's shorter side, inside the central square which CLIP's preprocessing keeps:
(0, 0) is its top left corner, (1, 1) its bottom right one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from .palette import COLOURS, KINDS, Background, backgrounds
from .shapes import SHAPES

Relation = Literal["", "left of", "right of", "above", "below"]

TEXTURES = ("plain", "striped", "dotted", "checkered", "outlined")
CLASSES: tuple[tuple[str, str], ...] = tuple((c, s) for c in COLOURS for s in SHAPES)
# A diagonal of the table, each colour and each shape once: pairs that training never shows nor names, so that
# recognising them means putting a colour and a shape together.
HELD_OUT: tuple[tuple[str, str], ...] = tuple(
    (c, list(SHAPES)[(k + 5) % len(SHAPES)]) for k, c in enumerate(COLOURS)
)  # fmt: skip
TRAINED: tuple[tuple[str, str], ...] = tuple(pair for pair in CLASSES if pair not in HELD_OUT)


@dataclass(frozen=True)
class Thing:
    """One coloured shape. `size` is its diameter, (`x`, `y`) its middle, `angle` its tilt in degrees."""

    colour: str
    shape: str
    size: float
    texture: str
    x: float
    y: float
    angle: float

    @property
    def pair(self) -> tuple[str, str]:
        return self.colour, self.shape

    @property
    def label(self) -> str:
        return f"{self.colour} {self.shape}"

    @property
    def size_word(self) -> str:
        return "small" if self.size < 0.33 else "medium" if self.size < 0.48 else "large"

    @property
    def place(self) -> str:
        """Which of nine cells its middle is in: `top left`, `top`, ..., `centre`, ..., `bottom right`."""
        row = "top" if self.y < 0.38 else "bottom" if self.y > 0.62 else ""
        column = "left" if self.x < 0.38 else "right" if self.x > 0.62 else ""
        return f"{row} {column}".strip() or "centre"


@dataclass(frozen=True)
class Scene:
    """One or two things on a background; `relation` is the first's to the second (empty when there is one)."""

    things: tuple[Thing, ...]
    background: Background
    relation: Relation = ""


def _background(rng: np.random.Generator, colours: frozenset[str]) -> Background:
    choices = backgrounds(colours)
    shares = np.array([KINDS[kind][0] for kind in choices])
    some = choices[list(choices)[int(rng.choice(len(shares), p=shares / shares.sum()))]]
    return some[int(rng.integers(len(some)))]


def _sample_pair(rng: np.random.Generator, held_out: bool | None) -> tuple[str, str]:
    pairs = CLASSES if held_out is None else HELD_OUT if held_out else TRAINED
    return pairs[int(rng.integers(len(pairs)))]


def _thing(rng: np.random.Generator, pair: tuple[str, str], size: float, x: float, y: float) -> Thing:
    texture = TEXTURES[int(rng.choice(5, p=(0.56, 0.13, 0.11, 0.08, 0.12)))]
    return Thing(*pair, size, texture, x, y, float(rng.uniform(-14, 14)))


def _alone(rng: np.random.Generator, pair: tuple[str, str]) -> Thing:
    size = float(rng.choice((0.27, 0.40, 0.58), p=(0.3, 0.35, 0.35)) * rng.uniform(0.94, 1.08))
    edge = size / 2 + 0.015
    if size > 0.48 or rng.random() < 0.3:
        x, y = rng.uniform(0.44, 0.56, 2)
        return _thing(rng, pair, size, float(np.clip(x, edge, 1 - edge)), float(np.clip(y, edge, 1 - edge)))
    bands = ((edge, 0.33), (0.44, 0.56), (0.67, 1 - edge))
    x, y = (rng.uniform(*bands[int(rng.integers(3))]) for _ in range(2))
    return _thing(rng, pair, size, float(x), float(y))


def _together(
    rng: np.random.Generator, pairs: tuple[tuple[str, str], tuple[str, str]]
) -> tuple[tuple[Thing, ...], Relation]:
    """Two things side by side or one above the other, never touching, and how the first stands to the second."""
    a, b = ((0.29, 0.29), (0.29, 0.41), (0.41, 0.29), (0.41, 0.41), (0.50, 0.29), (0.29, 0.50))[int(rng.integers(6))]
    a, b = (float(size * rng.uniform(0.95, 1.08)) for size in (a, b))
    gap = (a + b) / 2 + 0.02
    slack = 1 - 0.02 - gap - (a + b) / 2
    along_a = a / 2 + 0.01 + slack * rng.uniform(0, 0.5)
    along_b = along_a + gap + slack * rng.uniform(0, 0.5)
    across_a = rng.uniform(max(0.34, a / 2 + 0.01), min(0.66, 1 - a / 2 - 0.01))
    across_b = across_a + rng.uniform(-0.12, 0.12)
    across_b = min(max(across_b, b / 2 + 0.01), 1 - b / 2 - 0.01)
    which: Relation = ("left of", "right of", "above", "below")[int(rng.integers(4))]
    if which in ("right of", "below"):
        along_a, along_b = 1 - along_a, 1 - along_b
    spots = [(float(along_a), float(across_a)), (float(along_b), float(across_b))]
    if which in ("above", "below"):
        spots = [(y, x) for x, y in spots]
    return tuple(_thing(rng, p, s, *spot) for p, s, spot in zip(pairs, (a, b), spots, strict=True)), which


def sample_scene(rng: np.random.Generator, held_out: bool | None = False) -> Scene:
    """Invent a scene: one thing, or (55 % of them) two.

    `held_out` False: no thing is a `HELD_OUT` pair. True: the first thing is one, the second is not. None: anything.
    """
    first = _sample_pair(rng, held_out)
    if rng.random() < 0.45:
        return Scene((_alone(rng, first),), _background(rng, frozenset((first[0],))))
    while True:
        second = _sample_pair(rng, None if held_out is None else False)
        colours = frozenset((first[0], second[0]))
        if second != first and backgrounds(colours):
            things, relation = _together(rng, (first, second))
            return Scene(things, _background(rng, colours), relation)
