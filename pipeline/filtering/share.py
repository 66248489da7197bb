"""The threshold of the best share of a dataset's rows, and which parts it passes when it moves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from ..dataset.dataset import Dataset
from ..dataset.sortable import Counts, Keys, has_prefix, keys_of
from .kth import kth_largest
from .rows import Rows
from .runs import MOST, Run, runs_of
from .scores import CollectScores, CountScores, PartsBetween, Places, SomeKeys
from .spread import WAITING, Spread


@dataclass(frozen=True)
class PassedRows:
    """Those of a part whose scores a threshold has passed. places: None where they are not known."""

    count: int
    places: Places | None = None


@dataclass(frozen=True)
class Threshold:
    """Of the best share. near: the scores that begin with the same bits, as keys; none where they were not looked
    at."""

    score: float | None  # None where no row has one
    prefix: int = 0
    digit: int = 0
    near: Sequence[tuple[Run, SomeKeys]] = ()

    def passed(self, low: float, high: float) -> dict[str, PassedRows] | None:
        """The parts that have scores from `low` to below `high`. None where others than those near have to be looked
        at."""
        first, stop = keys_of(np.array([low, high]))
        if not self.near or not has_prefix(np.array([first, stop]), self.prefix, self.digit).all():
            return None
        passed: dict[str, PassedRows] = {}
        for run, some in self.near:
            if some.places is None:
                return None
            places = some.places[(some.keys >= first) & (some.keys < stop)]
            edges = np.searchsorted(places, run.narrow[0].starts).tolist()
            for part, (first_row, stop_row) in zip(run.parts, pairwise(edges), strict=True):
                if first_row < stop_row:
                    passed[part] = PassedRows(stop_row - first_row, places[first_row:stop_row])
        return passed


def best_share(rows: Rows, by: str, share: float, spread: Spread) -> Threshold:
    """The least score of the best share."""
    stage, near = f"ranking by {by}", Threshold(None)

    def count(prefix: int, digit: int) -> Counts:
        known, dataset = (_from_histograms(rows, by)) if digit == 0 else ([], rows.dataset)
        counting = CountScores(rows.for_runs(), by, prefix, digit)
        counts = (counts for _, counts in spread(stage, counting, runs_of(dataset, MOST), WAITING))
        return sum((*known, *counts), np.zeros(1 << 16, np.int64))

    def collect(prefix: int, digit: int) -> Iterator[Keys]:
        nonlocal near
        collecting = CollectScores(rows.for_runs(), by, prefix, digit)
        near = Threshold(None, prefix, digit, list(spread(stage, collecting, runs_of(rows.dataset, MOST), WAITING)))
        return (some.keys for _, some in near.near)

    # as in DataComp, int() rounds down; a share of 1.0 has no next score
    score = kth_largest(lambda scores: min(int(scores * share), scores - 1), count, collect)
    return replace(near, score=score)


def _from_histograms(rows: Rows, by: str) -> tuple[list[Counts], Dataset]:
    """The counts that the narrow table knows, and the dataset of the parts that it does not know."""
    if rows.within is not None:
        return [], rows.dataset
    counts = [(file, file.counts(by)) for file in rows.dataset.narrow]
    in_table = {part for file, known in counts if known is not None for part in file.parts}
    left = rows.dataset.only([part for part in rows.dataset.parts if part not in in_table])
    return [known for _, known in counts if known is not None], left


def passed_parts(rows: Rows, by: str, last: float, now: Threshold, spread: Spread) -> dict[str, PassedRows]:
    """The parts that have scores between two thresholds: rows that stay by one and not by the other."""
    assert now.score is not None
    low, high = sorted((last, now.score))
    if (passed := now.passed(low, high)) is not None:
        return {part: passed[part] for part in rows.dataset.parts if part in passed}
    between = PartsBetween(rows.for_runs(), by, low, high)
    found = spread("comparing with the last threshold", between, runs_of(rows.dataset, MOST), WAITING)
    return {part: PassedRows(count) for _, counts in found for part, count in counts.items()}
