"""The threshold of the best share of a dataset's rows, and which parts it passes when it moves."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..dataset.dataset import Dataset
from ..dataset.sortable import Counts, Keys
from .kth import kth_largest
from .rows import Rows
from .runs import MOST, runs_of
from .scores import CollectScores, CountScores, PartsBetween
from .spread import Spread


def best_share(rows: Rows, by: str, share: float, spread: Spread) -> float | None:
    """The least score of the best share; None where no row has one."""
    stage = f"ranking by {by}"

    def count(prefix: int, digit: int) -> Counts:
        known, dataset = (_from_histograms(rows, by)) if digit == 0 else ([], rows.dataset)
        counting = CountScores(rows.for_runs(), by, prefix, digit)
        counts = (counts for _, counts in spread(stage, counting, runs_of(dataset, MOST)))
        return sum((*known, *counts), np.zeros(1 << 16, np.int64))

    def collect(prefix: int, digit: int) -> Iterator[Keys]:
        collecting = CollectScores(rows.for_runs(), by, prefix, digit)
        return (keys for _, keys in spread(stage, collecting, runs_of(rows.dataset, MOST)))

    # as in DataComp, int() rounds down; a share of 1.0 has no next score
    return kth_largest(lambda scores: min(int(scores * share), scores - 1), count, collect)


def _from_histograms(rows: Rows, by: str) -> tuple[list[Counts], Dataset]:
    """The counts that the narrow table knows, and the dataset of the parts that it does not know."""
    if rows.within is not None:
        return [], rows.dataset
    counts = [(file, file.counts(by)) for file in rows.dataset.narrow]
    in_table = {part for file, known in counts if known is not None for part in file.parts}
    left = rows.dataset.only([part for part in rows.dataset.parts if part not in in_table])
    return [known for _, known in counts if known is not None], left


def passed_parts(rows: Rows, by: str, thresholds: tuple[float, float], spread: Spread) -> dict[str, int]:
    """The parts that have scores between two thresholds, and how many: rows that stay by one and not by the other."""
    between = PartsBetween(rows.for_runs(), by, min(thresholds), max(thresholds))
    found = spread("comparing with the last threshold", between, runs_of(rows.dataset, MOST))
    return {part: count for _, counts in found for part, count in counts.items()}
