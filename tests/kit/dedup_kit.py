"""What a run of `dedup` kept."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
from clipmill.pipeline.deduplication.dedup import DedupSummary

Row = tuple[int, int]  # part, row


def kept_of(summary: DedupSummary) -> set[Row]:
    tables = [pq.read_table(path) for path in sorted(Path(summary.out).glob("data/*.parquet"))]
    return {(int(row["shard"][-9:-4]), row["row"]) for table in tables for row in table.to_pylist()}
