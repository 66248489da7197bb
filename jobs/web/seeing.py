"""Which rows a view shows, in which order; and where it shows none, why."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...pipeline.searching.catalogue import Catalogue, Condition
from ...pipeline.searching.distribution import Values
from ...pipeline.searching.numbered_rows import Mask
from ...pipeline.searching.scan import Numbers, Scores, highest
from .matches import Matches
from .view import DEEPEST, View


@dataclass(frozen=True)
class Seen:
    """positions: the first of `total` rows, in their order. scores: their matches; None where nothing is searched."""

    positions: Numbers
    scores: Scores | None
    total: int
    exact: bool = True


@dataclass(frozen=True)
class Eye:
    rows: Catalogue
    matches: Matches

    def seen(self, view: View, wanted: int) -> Seen:
        """The first `wanted` rows of the view."""
        return self._found(view, wanted) if view.is_search else self._browsed(view, wanted)

    def values(self, view: View) -> Values:
        """What the view's threshold is about, of every row; NaN where a row has none."""
        if view.score == "match" and view.is_search:
            return self.matches.scores(view.query, view.side)
        return self.rows.similarities

    def mask(self, view: View) -> Mask | None:
        """The rows that meet the condition and a threshold of similarity; None: all."""
        return None if view.narrowed == Condition() else self.rows.mask(view.narrowed)

    def why_none(self, view: View) -> str:
        """Why a view shows no row at all."""
        condition = view.condition
        if not self.rows.rows:
            return "The dataset has no rows."
        left = self.rows.count(condition)
        if not left:
            which = " and ".join(
                [
                    *(["has this label"] if condition.label is not None else []),
                    *(["meets the filter"] if condition.where else []),
                ]
            )
            return f"No row {which}."
        values = self.values(view)[self.rows.mask(condition)]
        known = values[np.isfinite(values)]
        name = "match" if view.least_match is not None else "similarity"
        if view.at_least is not None and len(known):
            return f"None of {left:,} rows reaches a {name} of {view.at_least:.3f}: the highest is {known.max():.3f}."
        if view.is_search:
            return f"None of {left:,} rows has an embedding of its {'caption' if view.side == 'text' else 'image'}."
        return f"None of {left:,} rows has a similarity: it takes an image and a caption."

    def _browsed(self, view: View, wanted: int) -> Seen:
        mask = self.mask(view)
        if view.order == "best":
            if mask is None:
                return Seen(np.arange(min(wanted, self.rows.rows)), None, self.rows.rows)
            chosen = np.flatnonzero(mask)
            return Seen(chosen[:wanted], None, len(chosen))
        values = self.rows.similarities
        known = np.isfinite(values) if mask is None else np.isfinite(values) & mask
        chosen = np.flatnonzero(known)
        positions, _ = highest(chosen, _turned(values[chosen], view), wanted)
        return Seen(positions, None, len(chosen))

    def _found(self, view: View, wanted: int) -> Seen:
        space, mask = self.matches.spaces[view.side], self.mask(view)
        if space.index is not None and view.least_match is None and view.order == "best":
            positions, scores = space.nearest(self.matches.vector(view.query), wanted, mask)
            total = space.among(mask) if len(positions) == wanted else len(positions)  # those of NaN are never found
            return Seen(positions, scores, total, exact=space.is_exact(mask))
        if view.least_match is None:
            best = self.matches.best(view.query, view.side, view.narrowed, mask)
            positions, found, total = best.positions, best.scores, best.total
        else:
            scores = self.matches.scores(view.query, view.side)
            allowed = scores >= np.float32(view.least_match)  # NaN is not
            chosen = np.flatnonzero(allowed if mask is None else allowed & mask)
            positions, found = highest(chosen, scores[chosen], max(wanted, DEEPEST))
            total = len(chosen)
        if view.order != "best":
            values = _turned(self.rows.similarities[positions], view)
            order = np.argsort(np.where(np.isnan(values), np.inf, -values), kind="stable")
            positions, found = positions[order], found[order]
        return Seen(positions[:wanted], found[:wanted], total)


def _turned(values: Values, view: View) -> Values:
    return -values if view.order == "-similarity" else values
