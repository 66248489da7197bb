"""The narrow table: an exact top fraction of many rows against a sort, and the memory that it takes; and what a filter
costs when its dataset has grown by one part in a hundred."""

from __future__ import annotations

import os
import resource
import shutil
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import benchkit
import numpy as np
import pyarrow as pa
from benchkit import Row, Spread, expect

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "kit"))
from clipmill.pipeline import FilterJob, filter
from clipmill.pipeline.dataset.dataset import Dataset
from clipmill.pipeline.dataset.narrow import NARROW
from clipmill.pipeline.dataset.narrow_file import NarrowWriter, narrow_schema
from clipmill.pipeline.running import narrow_table
from made import make_dataset, unit_vectors

PART = 10_000  # rows
SHARE = 0.3
JOBS: dict[str, dict[str, Any]] = {"condition": {"where": ["width > 300"]}, "top fraction": {"top_fraction": SHARE}}


def synthetic(folder: Path, rows: int) -> Dataset:
    """A dataset whose rows are in its narrow table alone: the parts but the first are of one byte."""
    count, random = rows // PART, np.random.default_rng(0)
    dataset = make_dataset(folder, [{"similarity": np.zeros(PART, np.float32)}, *[{}] * (count - 1)])
    for part in dataset.parts[1:]:
        (folder / "data" / part).write_bytes(b"x")
    dataset, schema = Dataset.open(str(folder)), narrow_schema(dataset.schema)
    (folder / NARROW).mkdir(parents=True)
    each, whole = max(1, count // 20), dataset.read(dataset.parts[0], schema.names)
    position = schema.get_field_index("sha256")
    whole = whole.set_column(position, schema.field("sha256"), pa.nulls(PART, schema.field("sha256").type))
    for first in range(0, count, each):
        writer = NarrowWriter(folder / NARROW / f"{first:08d}.parquet", schema)
        facts = zip(dataset.parts, dataset.sizes, dataset.stamps, strict=True)
        for part, size, stamp in list(facts)[first : first + each]:
            place = schema.get_field_index("similarity")
            scores = pa.array(random.normal(0.25, 0.05, PART).astype(np.float32))
            writer.add(part, size, stamp, [whole.set_column(place, schema.field("similarity"), scores).cast(schema)])
        writer.close()
    return dataset


def share(rows: int) -> dict[str, Any]:
    """The rows that stay, their threshold, and what that took."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        dataset = synthetic(Path(folder) / "made", rows)
        written, before = time.monotonic() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began = time.monotonic()
        summary = filter(FilterJob(dataset.url, count=True, top_fraction=SHARE), lambda _: None)
        seconds, peak = time.monotonic() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        random, every = np.random.default_rng(0), np.empty(rows, np.float32)
        for start in range(0, rows, PART):
            every[start : start + PART] = random.normal(0.25, 0.05, PART).astype(np.float32)
        every.sort()
        least = every[::-1][int(rows * SHARE)]
        right = summary.funnel.kept == int((every >= least).sum())
        size = sum(path.stat().st_size for path in (Path(folder) / "made" / NARROW).iterdir())
    told = {"rows": rows, "seconds": seconds, "peak MiB": peak / 1024, "peak before MiB": before / 1024}
    return {**told, "as sorted": right, "kept": summary.funnel.kept, "table MB": size / 1e6, "write s": written}


def growth(rows: int, dim: int) -> dict[str, Any]:
    """The first filter, which makes the table, and the one after a part in a hundred more."""
    count, random = rows // PART, np.random.default_rng(0)
    parts = [
        {
            "similarity": random.normal(0.25, 0.05, PART).astype(np.float32),
            "caption": [f"a picture of {row} things and of others" for row in random.integers(0, 10**6, PART)],
            "url": [f"https://example.com/{row}.jpg" for row in random.integers(0, 10**9, PART)],
            "width": random.integers(100, 900, PART),
            "image_embedding": unit_vectors(number, PART, dim),
        }
        for number in range(count + max(1, count // 100))
    ]
    narrow_table.MANY_PARTS = 1
    told: dict[str, Any] = {"rows": rows, "parts": count}
    with tempfile.TemporaryDirectory() as folder:
        for name, conditions in JOBS.items():
            made = Path(folder) / "made"
            shutil.rmtree(made, ignore_errors=True)
            dataset = make_dataset(made, parts[:count], dim=dim)
            job = replace(FilterJob(dataset.url, f"{folder}/{name}"), **conditions)
            seconds = [filter(job, lambda _: None).seconds]
            make_dataset(made, parts, dim=dim)
            again = filter(job, lambda _: None)
            seconds.append(again.seconds)
            told[name] = {"first s": seconds[0], "grown s": seconds[1], "judged": again.parts - again.parts_done_before}
    return told


def measure(quick: bool) -> list[Row]:
    """CLIPMILL_BENCH_ROWS: of the synthetic table, instead of 10^7."""
    rows = 20_000 if quick else int(os.environ.get("CLIPMILL_BENCH_ROWS", 10**7))
    exact, grown = share(rows), growth(2 * PART if quick else 10**6, 4 if quick else 64)
    expect(exact["as sorted"], f"narrow: kept {exact['kept']:,}, other rows than a full sort keeps")
    what = f"filter --count, top {SHARE:.0%} of {rows:,} rows in the narrow table"
    lines = [
        Row(what, "s", Spread.of([exact["seconds"]])),
        Row("its peak memory, the process's own included", "MiB", Spread.of([exact["peak MiB"]])),
    ]
    for name in JOBS:
        of_job = grown[name]
        cost = Spread.of([of_job["grown s"] / of_job["first s"]])
        note = f"{of_job['judged']} of {grown['parts']} parts judged or changed"
        lines.append(
            Row(f"filter by {name} after 1 % more of {grown['rows']:,} rows, of the first", "", cost, note=note)
        )
    return lines


if __name__ == "__main__":
    benchkit.main(measure)
