"""Charts as positions of bars, lines and ticks, in percent of width and height; the page's template draws them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from .histogram import Histogram

Say = Callable[[float], str]  # formats a number
Points = Sequence[tuple[float, float]]

_GAP = 0.14  # of a bar's width, between it and the next
_ACROSS, _EDGES, _UP = 8, 6, 3  # ticks, at most about


@dataclass(frozen=True)
class Bar:
    x: float
    width: float
    height: float
    says: str


@dataclass(frozen=True)
class Tick:
    at: float
    text: str


@dataclass(frozen=True)
class Mark:
    x: float
    y: float
    text: str


@dataclass(frozen=True)
class Chart:
    """Bars, or a line through points (x, y) with some of them marked; y grows upwards."""

    title: str
    across: tuple[Tick, ...]
    up: tuple[Tick, ...]
    bars: tuple[Bar, ...] = ()
    line: tuple[tuple[float, float], ...] = ()
    marks: tuple[Mark, ...] = ()


def bar_chart(title: str, histogram: Histogram, say: Say, *, even: bool = False) -> Chart:
    """even: bars of equal width whatever their intervals, with ticks at their edges."""
    edges, counts = histogram.edges, histogram.counts
    step = nice_step(max(1.0, max(counts) / _UP))
    top = step * math.ceil(max(counts) / step)
    positions = [100 * k / len(counts) for k in range(len(edges))] if even else [at(edge, edges) for edge in edges]
    bars = [
        Bar(
            left + _GAP / 2 * (right - left),
            (1 - _GAP) * (right - left),
            100 * count / top,
            _says(low, high, count, say),
        )
        for (left, right), (low, high), count in zip(pairwise(positions), pairwise(edges), counts, strict=True)
    ]
    stride = math.ceil(len(edges) / _EDGES)
    marked = [Tick(position, say(edge)) for position, edge in list(zip(positions, edges, strict=True))[::stride]]
    up = tuple(Tick(100 * k * step / top, f"{k * step:,.0f}") for k in range(round(top / step) + 1))
    return Chart(title, tuple(marked) if even else ticks(edges), up, bars=tuple(bars))


def share_chart(title: str, points: Points, marked: Points, domain: Sequence[float]) -> Chart:
    """points: (x, share of one), over the domain's first to last number."""
    line = tuple((at(x, domain), 100 * share) for x, share in points if domain[0] <= x <= domain[-1])
    inside = [(x, share) for x, share in marked if domain[0] <= x <= domain[-1]]
    marks = tuple(Mark(at(x, domain), 100 * share, f"{share:.0%}") for x, share in inside)
    up = tuple(Tick(percent, f"{percent}%") for percent in (0, 25, 50, 75, 100))
    return Chart(title, ticks(domain), up, line=line, marks=marks)


def at(value: float, domain: Sequence[float]) -> float:
    """The position of a value between the first and the last number of the domain, in percent."""
    return 100 * (value - domain[0]) / (domain[-1] - domain[0])


def ticks(domain: Sequence[float]) -> tuple[Tick, ...]:
    """Ticks at round numbers, all with the same number of decimals."""
    step = nice_step((domain[-1] - domain[0]) / _ACROSS)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    numbers = [k * step for k in range(math.ceil(domain[0] / step - 1e-9), math.floor(domain[-1] / step + 1e-9) + 1)]
    return tuple(Tick(at(number, domain), f"{number:,.{decimals}f}") for number in numbers)


def nice_step(least: float) -> float:
    """The first of …, 0.1, 0.2, 0.5, 1, 2, 5, 10, … that is not less."""
    scale = 10.0 ** math.floor(math.log10(least))
    return next(factor * scale for factor in (1, 2, 5, 10) if factor * scale >= least * (1 - 1e-9))


def _says(low: float, high: float, count: int, say: Say) -> str:
    return f"{say(low)} to {say(high)}: {count:,}"
