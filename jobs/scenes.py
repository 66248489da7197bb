"""Drawn scenes: coloured shapes on a background, and captions that are true of them.

The shipped `tiny` model is trained on these, and the demo and the tests feed on them: an endless, licence-free
supply of image-text pairs of which the truth is known. A scene is a small frozen record; `sample_scene` invents one,
`draw` paints it at any size, `caption` words it. All three are deterministic in their generator.

Coordinates are fractions of the image's shorter side, inside the central square which CLIP's preprocessing keeps:
(0, 0) is its top left corner, (1, 1) its bottom right one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from .captions import caption, full_caption

__all__ = [
    "CLASSES", "COLOURS", "HELD_OUT", "SHAPES", "TEXTURES", "TRAINED", "Background", "Scene", "Thing",
    "caption", "draw", "full_caption", "sample_scene",
]  # fmt: skip

RGB = tuple[int, int, int]
Points = list[tuple[float, float]]
Relation = Literal["", "left of", "right of", "above", "below"]

COLOURS: dict[str, RGB] = {
    "red": (216, 24, 30),
    "orange": (250, 132, 8),
    "yellow": (248, 224, 28),
    "green": (34, 150, 44),
    "blue": (30, 62, 214),
    "purple": (120, 34, 168),
    "pink": (252, 128, 186),
    "brown": (112, 66, 26),
    "black": (14, 14, 16),
    "white": (250, 250, 248),
    "grey": (128, 128, 130),
    "cyan": (24, 208, 222),
}
JITTER = 9  # each channel moves by at most this much, so that no colour becomes another one


def _arc(radius: float, start: float = 0.0, stop: float = 360.0, x: float = 0.0, y: float = 0.0) -> Points:
    """Points of a circle's arc, clockwise on the screen, degrees from the positive x axis."""
    angles = np.radians(np.linspace(start, stop, 49))
    return [(x + radius * math.cos(a), y + radius * math.sin(a)) for a in angles]


def _heart() -> Points:
    turns = np.linspace(0, 2 * math.pi, 49)
    return [
        (0.92 * math.sin(t) ** 3, -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)) / 17.5)
        for t in turns
    ]  # fmt: skip


def _star() -> Points:
    spokes = [(1.0 if k % 2 == 0 else 0.42, math.radians(36 * k - 90)) for k in range(10)]
    return [(r * math.cos(a), r * math.sin(a)) for r, a in spokes]


def _fish() -> Points:
    """A body, pointed at both ends, that swims to the left, and a wide tail."""
    xs = np.linspace(0.42, -1.0, 20)
    back = [(float(x), -0.56 * math.sqrt(max(0.0, 1 - ((x + 0.27) / 0.73) ** 2))) for x in xs]
    belly = [(x, -y) for x, y in reversed(back)]
    return [(0.40, -0.16), *back[2:], *belly[:-2], (0.40, 0.16), (0.86, 0.5), (0.70, 0.0), (0.86, -0.5)]


# A shape is a list of (outline, filled?), painted in order inside the unit circle; an unfilled outline cuts a hole.
SHAPES: dict[str, list[tuple[Points, bool]]] = {
    "circle": [(_arc(0.9), True)],
    "square": [([(-0.7, -0.7), (0.7, -0.7), (0.7, 0.7), (-0.7, 0.7)], True)],
    "triangle": [([(0, -0.95), (0.86, 0.5), (-0.86, 0.5)], True)],
    "star": [(_star(), True)],
    "heart": [(_heart(), True)],
    "cross": [([(-0.27, -0.9), (0.27, -0.9), (0.27, -0.27), (0.9, -0.27), (0.9, 0.27), (0.27, 0.27), (0.27, 0.9),
                (-0.27, 0.9), (-0.27, 0.27), (-0.9, 0.27), (-0.9, -0.27), (-0.27, -0.27)], True)],
    "ring": [(_arc(0.95), True), (_arc(0.5), False)],
    "diamond": [([(0, -1), (0.6, 0), (0, 1), (-0.6, 0)], True)],
    "crescent": [(_arc(0.97), True), (_arc(0.8, x=0.48), False)],
    "arrow": [([(-0.95, -0.25), (0.1, -0.25), (0.1, -0.75), (0.98, 0), (0.1, 0.75), (0.1, 0.25), (-0.95, 0.25)], True)],
    "bolt": [([(0.2, -0.97), (-0.6, 0.12), (-0.06, 0.12), (-0.3, 0.95), (0.62, -0.24), (0.08, -0.24), (0.58, -0.8)], True)],
    "fish": [(_fish(), True)],
}  # fmt: skip

TEXTURES = ("plain", "striped", "dotted", "checkered", "outlined")
CLASSES: tuple[tuple[str, str], ...] = tuple((c, s) for c in COLOURS for s in SHAPES)
# A diagonal of the table, each colour and each shape once: pairs that training never shows nor names, so that
# recognising them means putting a colour and a shape together.
HELD_OUT: tuple[tuple[str, str], ...] = tuple(
    (c, list(SHAPES)[(k + 5) % len(SHAPES)]) for k, c in enumerate(COLOURS)
)  # fmt: skip
TRAINED: tuple[tuple[str, str], ...] = tuple(pair for pair in CLASSES if pair not in HELD_OUT)

# Tones of backgrounds, by the words that name them.
TONES: dict[str, RGB] = {
    "white": (248, 248, 246),
    "cream": (246, 236, 212),
    "pale blue": (200, 218, 244),
    "pale green": (204, 234, 204),
    "pale yellow": (250, 243, 196),
    "pale pink": (250, 216, 224),
    "pale purple": (224, 212, 242),
    "light grey": (208, 208, 208),
    "tan": (202, 172, 130),
    "dusty blue": (112, 142, 180),
    "sage": (146, 168, 128),
    "mauve": (164, 132, 156),
    "dark blue": (22, 30, 74),
    "dark green": (16, 54, 34),
    "dark grey": (56, 56, 60),
    "dark purple": (48, 24, 66),
    "black": (10, 10, 12),
}
_PAIRS: tuple[tuple[str, str], ...] = (
    ("white", "pale blue"), ("white", "light grey"), ("cream", "pale yellow"), ("cream", "tan"), ("white", "pale pink"),
    ("pale green", "white"), ("pale blue", "pale purple"), ("pale pink", "cream"), ("light grey", "pale blue"),
    ("dusty blue", "pale blue"), ("sage", "pale green"), ("mauve", "pale pink"), ("tan", "sage"),
    ("dusty blue", "mauve"), ("dark blue", "black"), ("dark green", "black"), ("dark grey", "black"),
    ("dark purple", "dark blue"), ("dark grey", "dark blue"), ("dusty blue", "dark blue"),
)  # fmt: skip
# kind -> (its share, its phrase when it has two tones)
_KINDS: dict[str, tuple[float, str]] = {
    "plain": (0.36, ""),
    "gradient": (0.16, "on a gradient background"),
    "speckled": (0.13, "on a speckled background"),
    "checkered": (0.12, "on a checkered background"),
    "blurry": (0.14, "on a blurry background"),
    "field": (0.09, "between sky and grass"),
}
_FIELD: tuple[RGB, RGB] = ((176, 212, 246), (116, 168, 84))
_CONTRAST = 38.0  # least CIELAB distance between a thing and any tone behind it


@dataclass(frozen=True)
class Background:
    """What is behind the things: how it is painted, how it is worded, and the tones it is made of."""

    kind: str
    phrase: str
    tones: tuple[RGB, ...]


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


def _lab(rgb: RGB) -> np.ndarray:
    """sRGB (0-255) to CIELAB under D65, shape (3,)."""
    c = np.asarray(rgb) / 255
    linear = np.where(c > 0.04045, ((c + 0.055) / 1.055) ** 2.4, c / 12.92)
    matrix = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    f = np.cbrt(np.maximum(matrix @ linear / np.array([0.9505, 1.0, 1.089]), 0.0089))
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@lru_cache(maxsize=None)
def _stands_out(colour: str, tone: RGB) -> bool:
    return float(np.linalg.norm(_lab(COLOURS[colour]) - _lab(tone))) >= _CONTRAST


@lru_cache(maxsize=None)
def _backgrounds(colours: frozenset[str]) -> dict[str, list[Background]]:
    """Every background on which things of these colours can be seen, by kind."""
    every = {"plain": [Background("plain", f"on a {name} background", (tone,)) for name, tone in TONES.items()]}
    for kind in ("gradient", "speckled", "checkered", "blurry"):
        every[kind] = [Background(kind, _KINDS[kind][1], (TONES[a], TONES[b])) for a, b in _PAIRS]
    every["field"] = [Background("field", _KINDS["field"][1], _FIELD)]
    fit = {
        kind: [b for b in some if all(_stands_out(c, tone) for c in colours for tone in b.tones)]
        for kind, some in every.items()
    }
    return {kind: some for kind, some in fit.items() if some}


def _sample_background(rng: np.random.Generator, colours: frozenset[str]) -> Background:
    choices = _backgrounds(colours)
    shares = np.array([_KINDS[kind][0] for kind in choices])
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


def _together(rng: np.random.Generator, pairs: tuple[tuple[str, str], tuple[str, str]]) -> tuple[tuple[Thing, ...], Relation]:
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
        return Scene((_alone(rng, first),), _sample_background(rng, frozenset((first[0],))))
    while True:
        second = _sample_pair(rng, None if held_out is None else False)
        colours = frozenset((first[0], second[0]))
        if second != first and _backgrounds(colours):
            things, relation = _together(rng, (first, second))
            return Scene(things, _sample_background(rng, colours), relation)


def _paint_background(background: Background, width: int, height: int, rng: np.random.Generator) -> Image.Image:
    """Every background is a little picture of a few cells, enlarged."""
    tones = np.array(background.tones, dtype=np.float32)
    tones = np.clip(tones + rng.integers(-5, 6, tones.shape), 0, 255)
    short = min(width, height)
    rows, columns, how = 1, 1, Image.Resampling.NEAREST
    if background.kind == "plain":
        mix = np.zeros((1, 1))
    elif background.kind == "gradient":
        mix, how = rng.permutation((0.0, 1.0, rng.random(), rng.random())).reshape(2, 2), Image.Resampling.BILINEAR
    elif background.kind == "speckled":
        rows, columns = (max(1, round(side / short * int(short / max(2.0, short / 64)))) for side in (height, width))
        mix = rng.random((rows, columns), dtype=np.float32)
    elif background.kind == "checkered":
        cells = int(rng.integers(4, 11))
        rows, columns = (round(cells * side / short) for side in (height, width))
        mix = np.add.outer(np.arange(rows), np.arange(columns)) % 2
    elif background.kind == "blurry":
        mix, how = rng.random((int(rng.integers(3, 7)), int(rng.integers(3, 7)))), Image.Resampling.BICUBIC
    else:
        mix = (np.arange(40) > rng.integers(15, 30)).astype(np.float32)[:, None]
    cells_rgb = tones[0] + (tones[-1] - tones[0]) * mix[..., None]
    return Image.fromarray(cells_rgb.astype(np.uint8)).resize((width, height), how)


def _paint_texture(fill: ImageDraw.ImageDraw, texture: str, side: int, span: float, tone: RGB, turn: float) -> None:
    """Stripes, dots or checks over a square of `side` pixels, sized by the thing's diameter `span`."""
    step = span / 7
    if texture == "striped":
        dx, dy, middle = math.cos(turn), math.sin(turn), side / 2
        for k in range(-6, 7):
            x, y = middle + 1.6 * k * step * dx, middle + 1.6 * k * step * dy
            ends = [(x - side * dy, y + side * dx), (x + side * dy, y - side * dx)]
            fill.line(ends, fill=tone, width=max(1, round(0.75 * step)))
    else:
        for i in range(int(side / step) + 1):
            for j in range(int(side / step) + 1):
                x, y = i * step, j * step
                if texture == "checkered" and (i + j) % 2:
                    fill.rectangle((x, y, x + step, y + step), fill=tone)
                elif texture == "dotted" and i % 2 and not (j + i // 2) % 2:
                    fill.ellipse((x - 0.1 * step, y - 0.1 * step, x + 1.1 * step, y + 1.1 * step), fill=tone)


def _paint_thing(image: Image.Image, thing: Thing, rng: np.random.Generator) -> None:
    """Paint the shape's mask and its texture enlarged, reduce both, and paste one through the other."""
    width, height = image.size
    short = min(width, height)
    span = thing.size * short
    scale = 3 if span < 64 else 2
    left, top = (width - short) / 2 + thing.x * short - span / 2, (height - short) / 2 + thing.y * short - span / 2
    box = int(left) - 1, int(top) - 1
    side = math.ceil(span) + 3
    mask = Image.new("L", (side * scale, side * scale), 0)
    pen = ImageDraw.Draw(mask)
    turn = math.radians(thing.angle)
    rotation = np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]]) * span / 2 * scale
    middle = np.array([left - box[0] + span / 2, top - box[1] + span / 2]) * scale
    outlines = [((np.array(points) @ rotation + middle).ravel().tolist(), solid) for points, solid in SHAPES[thing.shape]]
    for outline, solid in outlines:
        pen.polygon(outline, fill=255 if solid else 0)
    base = np.clip(np.array(COLOURS[thing.colour]) + rng.integers(-JITTER, JITTER + 1, 3), 0, 255)
    dark = base.max() < 60 or thing.colour in ("blue", "purple", "brown")
    second = base + 0.3 * (255 - base) if dark else base * 0.72
    tone, other = tuple(int(v) for v in base), tuple(int(v) for v in second)
    fill = Image.new("RGB", mask.size, tone)
    if thing.texture == "outlined":
        for outline, _ in outlines:
            ImageDraw.Draw(fill).line(outline + outline[:4], fill=other, width=max(2, round(0.13 * span * scale)))
    elif thing.texture != "plain":
        _paint_texture(ImageDraw.Draw(fill), thing.texture, mask.width, span * scale, other, float(rng.uniform(0, math.pi)))
    image.paste(fill.reduce(scale) if thing.texture != "plain" else tone, (*box, box[0] + side, box[1] + side), mask.reduce(scale))


def draw(scene: Scene, width: int, height: int, rng: np.random.Generator) -> Image.Image:
    """Paint the scene: an RGB image of the given size in pixels, antialiased, with a camera's small faults."""
    image = _paint_background(scene.background, width, height, rng)
    for thing in scene.things:
        _paint_thing(image, thing, rng)
    if rng.random() < 0.15:
        image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.3, 0.8)) * min(width, height) / 128))
    grain = int(rng.integers(1, 8))
    pixels = np.asarray(image).astype(np.int16)
    if rng.random() < 0.3:
        pixels = (pixels * int(rng.integers(225, 280))) >> 8
    pixels += rng.integers(0, 2 * grain + 1, pixels.shape, dtype=np.uint8)
    return Image.fromarray(np.clip(pixels - grain, 0, 255).astype(np.uint8))
