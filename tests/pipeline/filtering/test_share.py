"""The threshold of a best share that has moved: which parts have scores that it has passed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from clipmill.pipeline.dataset.dataset import Dataset
from clipmill.pipeline.dataset.narrow import NARROW
from clipmill.pipeline.filtering.rows import Rows
from clipmill.pipeline.filtering.share import PassedRows, best_share, passed_parts
from clipmill.pipeline.filtering.spread import Spread
from clipmill.pipeline.running.narrow_table import with_narrow_table
from clipmill.pipeline.running.stages import Stage
from filter_kit import NAN
from made import make_dataset
from narrow_kit import small_tables

MOVES = (0.0, 0.0001, -0.0001, 0.001, -0.001, 0.1, -0.1, 3.0, -3.0)  # of the threshold


def scores(seed: int) -> list[Any]:
    """With ties, numbers that are none, both zeros, and a part whose scores all are below the others."""
    random = np.random.default_rng(seed)
    made: list[Any] = np.round(random.normal(0.27 if seed % 4 else -0.2, 0.02, 300), 4).astype(np.float32).tolist()
    for row in range(0, 300, 7):
        made[row] = (None, NAN, 0.0, -0.0)[row % 4]
    return made


def counted(passed: Mapping[str, PassedRows]) -> dict[str, int]:
    return {part: rows.count for part, rows in passed.items()}


def values_at(dataset: Dataset, passed: Mapping[str, PassedRows]) -> dict[str, list[float]]:
    """The scores at the places of the narrow table that are told."""
    values = {}
    for file in dataset.narrow:
        column = pq.read_table(f"{dataset.url}/{NARROW}/{file.name}", columns=["similarity"])["similarity"]
        values |= {
            part: column.take(pa.array(passed[part].places)).to_pylist() for part in file.parts if part in passed
        }
    return values


class Stages(list[str]):
    def __call__(self, stage: Stage) -> None:
        self.append(stage.name)


@pytest.mark.parametrize("has_table", [True, False], ids=["table", "parts"])
@pytest.mark.parametrize("move", MOVES)
def test_the_scores_between_two_thresholds_are_counted_part_by_part(
    move: float, has_table: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    columns = [{"similarity": scores(seed)} for seed in range(9)]
    dataset = make_dataset(tmp_path / "in", [*columns[:4], {}, *columns[4:]])
    small_tables(monkeypatch)
    table = with_narrow_table(dataset, "auto", lambda _: None) if has_table else dataset
    assert bool(table.narrow) == has_table
    rows, spread = Rows(table), Spread("auto", lambda _: None)
    best = best_share(rows, "similarity", 0.3, spread)
    assert best.score is not None
    last = best.score - move
    low, high = sorted((last, best.score))
    wanted = {
        part: sum(score is not None and low <= score < high for score in of_part["similarity"])
        for part, of_part in zip(dataset.parts, [*columns[:4], {"similarity": []}, *columns[4:]], strict=True)
    }
    found = passed_parts(rows, "similarity", last, best, spread)
    assert counted(found) == {part: n for part, n in wanted.items() if n}
    assert sum(wanted.values()) or low == high
    if has_table and abs(move) < 0.01:  # else others than those near the threshold have to be looked at
        assert values_at(table, found) == {
            part: [score for score in of_part["similarity"] if score is not None and low <= score < high]
            for part, of_part in zip(dataset.parts, [*columns[:4], {"similarity": []}, *columns[4:]], strict=True)
            if wanted[part]
        }
    # and of some parts alone
    some = Rows(table.only(dataset.parts[3:8]))
    found = passed_parts(some, "similarity", last, best, spread)
    assert counted(found) == {part: n for part, n in wanted.items() if n and part in dataset.parts[3:8]}


def test_scores_near_the_threshold_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = make_dataset(tmp_path / "in", [{"similarity": scores(seed)} for seed in range(9)])
    small_tables(monkeypatch)
    rows, stages = Rows(with_narrow_table(dataset, "auto", lambda _: None)), Stages()
    best = best_share(rows, "similarity", 0.3, Spread("auto", stages))
    assert best.score is not None
    assert passed_parts(rows, "similarity", best.score + 0.001, best, Spread("auto", stages))
    assert set(stages) == {"ranking by similarity"}
    passed_parts(rows, "similarity", -1.0, best, Spread("auto", stages))
    assert set(stages) == {"ranking by similarity", "comparing with the last threshold"}
