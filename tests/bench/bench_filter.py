"""The exact top fraction of many rows with ties, against a full sort of the scores; and the memory it takes."""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from pathlib import Path

import benchkit
import numpy as np
import pyarrow.parquet as pq
from benchkit import Row, Spread, expect
from clipmill.pipeline import FilterJob, filter
from clipmill.pipeline.dataset.dataset import Dataset
from clipmill.pipeline.dataset.subset import Subset, rows_within

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "kit"))
from made import make_dataset

SHARE = 0.3
ROUNDS = 3


def measure(quick: bool) -> list[Row]:
    parts, rows = (4, 5_000) if quick else (100, 100_000)
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        # float32 of four digits: some thousand rows a value
        scores = [np.round(random.normal(0.25, 0.05, rows), 4).astype(np.float32) for _ in range(parts)]
        dataset = make_dataset(Path(folder) / "in", [{"similarity": part} for part in scores])
        ours, sorts = [], []
        for number in range(1 if quick else ROUNDS):
            job = FilterJob(dataset.url, f"{folder}/out{number}", top_fraction=SHARE)
            began = time.monotonic()
            summary = filter(job)
            ours.append(parts * rows / (time.monotonic() - began) / 1e6)
            if not number:
                peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            began = time.monotonic()
            least = _by_sorting(dataset)
            sorts.append(parts * rows / (time.monotonic() - began) / 1e6)
        kept = [np.flatnonzero(part >= least) for part in scores]
        expect(summary.funnel.kept == sum(map(len, kept)), f"filter: kept {summary.funnel.kept:,}")
        subset = Subset.open(job.out)
        same = all(
            np.array_equal(rows_within(subset, part), wanted) for part, wanted in zip(dataset.parts, kept, strict=True)
        )
        expect(same, "filter: other rows than a full sort keeps")
    what = f"filter, top {SHARE:.0%} of {parts * rows:,} rows in {parts} parts, subset written"
    share = Spread.of(mine / theirs for mine, theirs in zip(ours, sorts, strict=True))
    return [
        Row(what, "M rows/s", Spread.of(ours), Spread.of(sorts), "the column read and sorted, no more", share),
        Row("filter's peak memory, the process's own included", "MiB", Spread.of([peak])),
    ]


def _by_sorting(dataset: Dataset) -> np.float32:
    every = np.concatenate(
        [pq.read_table(dataset.url_of(p), columns=["similarity"])["similarity"] for p in dataset.parts]
    )
    descending: np.float32 = np.sort(every)[::-1][int(len(every) * SHARE)]
    return descending


if __name__ == "__main__":
    benchkit.main(measure)
