"""Which parts are scored, and from what: so that the next run opens only those that are new or have changed.

`.clipmill/scored.parquet` is a cache, written at the end of a run. Without it the parts' footers tell.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict

import pyarrow as pa
import pyarrow.parquet as pq

from ..dataset.dataset import Dataset
from ..dataset.layout import OWN
from ..dataset.output import Output
from ..dataset.part import unpacked
from .part import ScoreCounts

SCORED = f"{OWN}/scored.parquet"
_SCHEMA = pa.schema(
    [
        ("part", pa.string()),
        ("stamp", pa.int64()),  # of the dataset's part
        ("bytes", pa.int64()),  # of the file of scores
        ("rows", pa.int64()),
        ("scored", pa.int64()),
        ("undefined", pa.int64()),
    ]
)


def remembered(output: Output, dataset: Dataset) -> dict[str, ScoreCounts]:
    """The parts that were scored as they are, and whose files are there as they were."""
    table = pa.table({})
    with suppress(pa.ArrowException, OSError):  # a damaged one tells nothing
        table = unpacked(output.read(SCORED) or b"")
    if table.schema.remove_metadata() != _SCHEMA:
        return {}
    now, sizes = dict(zip(dataset.parts, dataset.stamps, strict=True)), output.part_sizes()
    columns = (table[name].to_pylist() for name in _SCHEMA.names)
    return {
        part: ScoreCounts(*counts)
        for part, stamp, size, *counts in zip(*columns, strict=True)
        if now.get(part) == stamp and sizes.get(part) == size
    }


def remember(output: Output, dataset: Dataset, counts: Mapping[str, ScoreCounts]) -> None:
    """counts: of all parts of the dataset."""
    sizes = output.part_sizes()
    rows = [
        {"part": part, "stamp": stamp, "bytes": sizes.get(part, -1), **asdict(counts[part])}
        for part, stamp in zip(dataset.parts, dataset.stamps, strict=True)
    ]
    with output.staged(SCORED, replace=True) as path:
        pq.write_table(pa.Table.from_pylist(rows, _SCHEMA), path, compression="zstd")
