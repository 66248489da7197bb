"""Side tables to join with a dataset."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from clipmill.pipeline.dataset.dataset import Dataset


def write_side(folder: Path, dataset: Dataset, columns: Callable[[pa.Table], dict[str, Any]]) -> str:
    """A side table of the columns that are made of each part's own; the folder's name. Files that are there stay."""
    folder.mkdir(parents=True, exist_ok=True)
    for part in (name for name in dataset.parts if not (folder / name).exists()):
        own = dataset.read(part, ["shard", "row"])
        pq.write_table(
            pa.table({**dict(zip(own.column_names, own.columns, strict=True)), **columns(own)}), folder / part
        )
    return str(folder)
