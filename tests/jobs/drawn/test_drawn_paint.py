"""Paint: things have their colour where they are, and stand out from what is behind them."""

from __future__ import annotations

import math

import numpy as np
from clipmill.jobs.drawn.paint import JITTER, draw
from clipmill.jobs.drawn.pairs import PairSpec, scene_of
from clipmill.jobs.drawn.palette import COLOURS
from clipmill.jobs.drawn.scenes import Thing
from clipmill.jobs.drawn.shapes import SHAPES
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFilter

FIXED = settings(derandomize=True, deadline=None, database=None)
series = st.builds(PairSpec, seed=st.integers(0, 2**31), held_out=st.sampled_from([False, True, None]))
indices = st.integers(0, 10**6)


def inside(thing: Thing, width: int, height: int, spare: int) -> np.ndarray:
    """Which pixels are the thing's, but for `spare` pixels along its edge: bool [height, width]. A drawing of its own,
    at the image's size and without antialiasing."""
    mask = Image.new("L", (width, height))
    short = min(width, height)
    turn, reach = math.radians(thing.angle), thing.size * short / 2
    x, y = (width - short) / 2 + thing.x * short, (height - short) / 2 + thing.y * short
    for outline, solid in SHAPES[thing.shape]:
        turned = [
            (
                x + reach * (px * math.cos(turn) - py * math.sin(turn)),
                y + reach * (px * math.sin(turn) + py * math.cos(turn)),
            )
            for px, py in outline
        ]
        ImageDraw.Draw(mask).polygon(turned, fill=255 if solid else 0)
    edge = ImageFilter.MinFilter if spare > 0 else ImageFilter.MaxFilter
    return np.asarray(mask.filter(edge(2 * abs(spare) + 1))) > 0


def shades(colour: str) -> tuple[np.ndarray, np.ndarray]:
    """The least and the greatest value of each channel that light, jitter, texture and grain make of a colour."""
    base = np.array(COLOURS[colour], dtype=float)
    darkest, lightest = 0.72 * (base - JITTER), np.maximum(base + JITTER, base + JITTER + 0.3 * (255 - base))
    return np.clip(darkest * 225 / 256 - 8, 0, 255), np.clip(lightest * 279 / 256 + 8, 0, 255)


def lab(rgb: np.ndarray) -> np.ndarray:
    """sRGB [..., 3] of 0 to 255 -> CIELAB, D65."""
    linear = np.where(rgb / 255 <= 0.04045, rgb / 255 / 12.92, ((rgb / 255 + 0.055) / 1.055) ** 2.4)
    xyz = linear @ np.array([[0.4124, 0.2126, 0.0193], [0.3576, 0.7152, 0.1192], [0.1805, 0.0722, 0.9505]])
    f = np.cbrt(xyz / np.array([0.9505, 1.0, 1.089]))
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], axis=-1)


@given(series, indices, st.sampled_from([(128, 128), (192, 128), (120, 170)]))
@settings(FIXED, max_examples=150)
def test_things_are_painted_in_their_colour_and_stand_out(spec: PairSpec, index: int, size: tuple[int, int]) -> None:
    scene, _ = scene_of(spec, index)
    pixels = np.asarray(draw(scene, *size, np.random.default_rng((spec.seed, index)))).astype(float)
    assert pixels.shape == (size[1], size[0], 3)
    background = ~np.any([inside(thing, *size, spare=-4) for thing in scene.things], axis=0)
    for thing in scene.things:
        own = pixels[inside(thing, *size, spare=2)]
        assert len(own) >= 20
        shade = np.median(own, axis=0)
        least, most = shades(thing.colour)
        assert (least <= shade).all() and (shade <= most).all(), (thing.label, shade)
        contrast = np.linalg.norm(lab(pixels[background]) - lab(shade), axis=-1)
        assert np.median(contrast) > 18, (thing.label, scene.background)


def test_plain_things_have_just_their_colour() -> None:
    """Without a texture, little is left that may change it: the median over some pictures is the colour itself."""
    found: dict[str, list[np.ndarray]] = {colour: [] for colour in COLOURS}
    for index in range(600):
        scene, _ = scene_of(PairSpec(seed=11), index)
        thing = scene.things[0]
        if thing.texture == "plain":
            pixels = np.asarray(draw(scene, 128, 128, np.random.default_rng(index)))
            found[thing.colour].append(np.median(pixels[inside(thing, 128, 128, spare=2)], axis=0))
    for colour, seen in found.items():
        assert np.abs(np.median(seen, axis=0) - COLOURS[colour]).max() <= 12, colour


def test_plain_backgrounds_have_their_tone() -> None:
    for index in range(300):
        scene, _ = scene_of(PairSpec(seed=12), index)
        if scene.background.kind == "plain":
            pixels = np.asarray(draw(scene, 100, 90, np.random.default_rng(index)))
            background = ~np.any([inside(thing, 100, 90, spare=-4) for thing in scene.things], axis=0)
            tone = np.array(scene.background.tones[0])
            shade = np.median(pixels[background], axis=0)
            assert (tone * 225 / 256 - 14 <= shade).all() and (shade <= tone * 279 / 256 + 14).all()
