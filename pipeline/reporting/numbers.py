"""A report's numbers, out of its sums."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import duckdb

from ..dataset.sql import literal
from .histogram import Histogram, median_of
from .similarity import Similarity, similarity_of

_REASONS = 20  # reasons for failures that are shown, the most frequent
_TOKENS = 4  # tokens a bar
_MOST_TOKENS = 160  # longer captions count there
# pixels; three or four an octave, at numbers that people know
_SIDES = (0, 16, 24, 32, 48, 64, 96, 128, 160, 200, 256, 320, 400, 512, 640, 768, 1024, 1536, 2048, 3072, 4096, 8192)
_MOST_BARS = 40
_STEPS = (1, 2, 4, 5, 8, 10, 16, 20, 25, 32, 40, 50, 64, 80, 100, 128, 160, 200)  # pixels, where sizes are much alike
_EIGHTHS = range(-20, 21)  # of an octave: width / height from 1:5.7 to 5.7:1, squares in the middle of their bar


@dataclass(frozen=True)
class Counts:
    """rows = embedded + failed. The rest are of the embedded ones."""

    rows: int
    embedded: int
    failed: int
    images: int  # with an image
    texts: int  # with a caption
    pairs: int  # with both
    truncated: int  # captions longer than the model's context


@dataclass(frozen=True)
class Sizes:
    """Of the embedded images, as decoded, in pixels."""

    median: float | None  # of the shorter side
    sides: Histogram  # shorter sides
    aspects: Histogram  # width / height


@dataclass(frozen=True)
class Captions:
    """Tokens of the embedded captions, [SOS] and [EOS] included, before any cutting."""

    median: float | None
    tokens: Histogram


@dataclass(frozen=True)
class Numbers:
    """Of the rows of a dataset, or of those of a subset."""

    counts: Counts
    failures: Mapping[str, int]  # by reason, the most frequent first; the rest as `other reasons`
    similarities: tuple[Similarity, ...]  # by model; those that have pairs
    sizes: Sizes | None
    captions: Captions | None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def numbers_of(connection: duckdb.DuckDBPyConnection, aliases: Iterable[str]) -> Numbers:
    """Of the sums (see sums.py). aliases: of the models."""
    similarities = [similarity_of(connection, alias) for alias in aliases]
    return Numbers(
        counts=Counts(**rows_by_name(connection, "counts")),
        failures=_failures(connection),
        similarities=tuple(similarity for similarity in similarities if similarity is not None),
        sizes=_sizes(connection),
        captions=_captions(connection),
    )


def rows_by_name(connection: duckdb.DuckDBPyConnection, what: str) -> dict[str, int]:
    return dict(connection.execute(f"SELECT name, rows FROM sums WHERE what = {literal(what)}").fetchall())


def rows_by_number(connection: duckdb.DuckDBPyConnection, what: str) -> dict[float, int]:
    return dict(connection.execute(f"SELECT number, rows FROM sums WHERE what = {literal(what)}").fetchall())


def _failures(connection: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """As decode.reason_of has it, the detail in brackets left out."""
    reasons = sorted(rows_by_name(connection, "failures").items(), key=lambda reason: (-reason[1], reason[0]))
    failures = dict(reasons[:_REASONS])
    if others := sum(times for _, times in reasons[_REASONS:]):
        failures["other reasons"] = others
    return failures


def _sizes(connection: duckdb.DuckDBPyConnection) -> Sizes | None:
    sides = rows_by_number(connection, "sides")
    if not sides:
        return None
    aspects = rows_by_number(connection, "aspects")
    eighths = Histogram.of(aspects, [eighth - 0.5 for eighth in _EIGHTHS]).trimmed()
    ratios = Histogram(tuple(2 ** (edge / 8) for edge in eighths.edges), eighths.counts)
    return Sizes(median_of(sides), Histogram.of(sides, _side_edges(sides)).trimmed(), ratios)


def _side_edges(sides: Mapping[float, int]) -> Sequence[float]:
    least, greatest = int(min(sides)), int(max(sides))
    for step in _STEPS if greatest < 4 * least else ():
        if (greatest - least) / step < _MOST_BARS:
            return range(step * (least // step), greatest + step + 1, step)
    return _SIDES if greatest < _SIDES[-1] else (*_SIDES, greatest + 1)


def _captions(connection: duckdb.DuckDBPyConnection) -> Captions | None:
    tokens = rows_by_number(connection, "tokens")
    if not tokens:
        return None
    end = min(_MOST_TOKENS, math.ceil((max(tokens) + 1) / _TOKENS) * _TOKENS)
    return Captions(median_of(tokens), Histogram.of(tokens, range(0, end + 1, _TOKENS)))
