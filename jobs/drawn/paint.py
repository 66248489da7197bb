"""Painting a drawn scene, with a camera's small faults."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from .palette import COLOURS, RGB, Background
from .scenes import Scene, Thing
from .shapes import SHAPES

JITTER = 9  # each channel moves by at most this much, so that no colour becomes another one


def _paint_background(background: Background, width: int, height: int, rng: np.random.Generator) -> Image.Image:
    """Every background is a little picture of a few cells, enlarged."""
    tones = np.array(background.tones, dtype=np.float32)
    tones = np.clip(tones + rng.integers(-5, 6, tones.shape), 0, 255)
    short = min(width, height)
    rows, columns, how = 1, 1, Image.Resampling.NEAREST
    mix: npt.NDArray[np.floating]
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


def _rgb(values: npt.NDArray[Any]) -> RGB:
    red, green, blue = (int(value) for value in values)
    return red, green, blue


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
    outlines = [
        ((np.array(points) @ rotation + middle).ravel().tolist(), solid) for points, solid in SHAPES[thing.shape]
    ]
    for outline, solid in outlines:
        pen.polygon(outline, fill=255 if solid else 0)
    base = np.clip(np.array(COLOURS[thing.colour]) + rng.integers(-JITTER, JITTER + 1, 3), 0, 255)
    dark = base.max() < 60 or thing.colour in ("blue", "purple", "brown")
    second = base + 0.3 * (255 - base) if dark else base * 0.72
    tone, other = _rgb(base), _rgb(second)
    fill = Image.new("RGB", mask.size, tone)
    if thing.texture == "outlined":
        for outline, _ in outlines:
            ImageDraw.Draw(fill).line(outline + outline[:4], fill=other, width=max(2, round(0.13 * span * scale)))
    elif thing.texture != "plain":
        _paint_texture(
            ImageDraw.Draw(fill), thing.texture, mask.width, span * scale, other, float(rng.uniform(0, math.pi))
        )
    image.paste(
        fill.reduce(scale) if thing.texture != "plain" else tone,
        (*box, box[0] + side, box[1] + side),
        mask.reduce(scale),
    )


def draw(scene: Scene, width: int, height: int, rng: np.random.Generator) -> Image.Image:
    """Paint the scene: an RGB image of the given size in pixels, antialiased, with a camera's small faults."""
    image = _paint_background(scene.background, width, height, rng)
    for thing in scene.things:
        _paint_thing(image, thing, rng)
    if rng.random() < 0.15:
        image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.3, 0.8)) * min(width, height) / 128))
    grain = int(rng.integers(1, 8))
    pixels = np.asarray(image).astype(np.int32)
    if rng.random() < 0.3:
        pixels = (pixels * int(rng.integers(225, 280))) >> 8
    pixels += rng.integers(0, 2 * grain + 1, pixels.shape, dtype=np.uint8)
    return Image.fromarray(np.clip(pixels - grain, 0, 255).astype(np.uint8))
