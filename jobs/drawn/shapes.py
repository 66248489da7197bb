"""The outlines of the twelve shapes, inside the unit circle."""

from __future__ import annotations

import math

import numpy as np

Points = list[tuple[float, float]]


def _arc(radius: float, start: float = 0.0, stop: float = 360.0, x: float = 0.0, y: float = 0.0) -> Points:
    """Points of a circle's arc, clockwise on the screen, degrees from the positive x axis."""
    angles = np.radians(np.linspace(start, stop, 49))
    return [(x + radius * math.cos(a), y + radius * math.sin(a)) for a in angles]


def _heart() -> Points:
    turns = np.linspace(0, 2 * math.pi, 49)
    return [
        (
            0.92 * math.sin(t) ** 3,
            (math.cos(4 * t) + 2 * math.cos(3 * t) + 5 * math.cos(2 * t) - 13 * math.cos(t)) / 17.5,
        )
        for t in turns
    ]


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
    "bolt": [([(0.2, -0.97), (-0.6, 0.12), (-0.06, 0.12), (-0.3, 0.95), (0.62, -0.24), (0.08, -0.24), (0.58, -0.8)],
              True)],
    "fish": [(_fish(), True)],
}  # fmt: skip
