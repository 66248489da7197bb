"""Colours of things and tones of backgrounds, and which of them can be told apart."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

RGB = tuple[int, int, int]

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
KINDS: dict[str, tuple[float, str]] = {
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


def _lab(rgb: RGB) -> np.ndarray:
    """sRGB (0-255) to CIELAB under D65, shape (3,)."""
    c = np.asarray(rgb) / 255
    linear = np.where(c > 0.04045, ((c + 0.055) / 1.055) ** 2.4, c / 12.92)
    matrix = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    f = np.cbrt(np.maximum(matrix @ linear / np.array([0.9505, 1.0, 1.089]), 0.0089))
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@cache
def _stands_out(colour: str, tone: RGB) -> bool:
    return float(np.linalg.norm(_lab(COLOURS[colour]) - _lab(tone))) >= _CONTRAST


@cache
def backgrounds(colours: frozenset[str]) -> dict[str, list[Background]]:
    """Every background on which things of these colours can be seen, by kind."""
    every = {"plain": [Background("plain", f"on a {name} background", (tone,)) for name, tone in TONES.items()]}
    for kind in ("gradient", "speckled", "checkered", "blurry"):
        every[kind] = [Background(kind, KINDS[kind][1], (TONES[a], TONES[b])) for a, b in _PAIRS]
    every["field"] = [Background("field", KINDS["field"][1], _FIELD)]
    fit = {
        kind: [b for b in some if all(_stands_out(c, tone) for c in colours for tone in b.tones)]
        for kind, some in every.items()
    }
    return {kind: some for kind, some in fit.items() if some}
