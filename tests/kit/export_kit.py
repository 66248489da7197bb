"""Datasets to export, and readers written from each layout's documentation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from clipmill.pipeline.dataset.dataset import Dataset
from clipmill.pipeline.dataset.output import Output
from clipmill.pipeline.dataset.subset import IDENTITY, Funnel, begin_subset, finish_subset, write_subset_part
from made import unit_vectors

Rows = list[dict[str, Any]]


def part_of(seed: int, rows: int, **changes: Any) -> dict[str, Any]:
    """Pairs with all that an export looks at."""
    return {
        "uid": [f"{seed:016x}{row:016x}" for row in range(rows)],
        "image_embedding": unit_vectors(seed, rows),
        "text_embedding": unit_vectors(seed + 100, rows),
        "similarity": np.linspace(0, 1, rows),
        "width": [30] * rows,
        "height": [20] * rows,
        "caption_tokens": [5] * rows,
        **changes,
    }


def subset_of(dataset: Dataset, folder: Path, keep: list[int]) -> str:
    """Of each part the rows at those places."""
    output = Output.at(str(folder)).prepare()
    begin_subset(output, "filter", dataset, {})
    for part in dataset.parts:
        table = dataset.read(part, IDENTITY)
        write_subset_part(output, part, table.take(pa.array([place for place in keep if place < len(table)])))
    finish_subset(output, dataset, Funnel(0, {}, 0))
    return output.url


def read_datacomp(folder: Path) -> Rows:
    """As DataComp's README has it: a Parquet file and an npz of one name, whose rows belong together."""
    rows = []
    for path in sorted(folder.glob("*.parquet")):
        metadata = pd.read_parquet(path)
        arrays = np.load(path.with_suffix(".npz"))
        assert all(len(arrays[name]) == len(metadata) and arrays[name].dtype == np.float16 for name in arrays)
        for place, row in enumerate(metadata.to_dict("records")):
            rows.append({**row, **{name: arrays[name][place] for name in arrays}})
    return rows


def read_clip_retrieval(folder: Path) -> Rows:
    """As its README has it: files of one number belong together; folders are read in the order of names."""
    rows: Rows = []
    for metadata in sorted((folder / "metadata").glob("metadata_*.parquet")):
        number = metadata.stem.removeprefix("metadata_")
        arrays = {side: folder / f"{side}_emb" / f"{side}_emb_{number}.npy" for side in ("img", "text")}
        loaded = {side: np.load(path) for side, path in arrays.items() if path.exists()}
        table = pd.read_parquet(metadata)
        assert all(len(array) == len(table) > 0 and array.dtype == np.float16 for array in loaded.values())
        for place, row in enumerate(table.to_dict("records")):
            rows.append({**row, **{side: array[place] for side, array in loaded.items()}})
    return rows


TO_FILES = ("datacomp", "clip-retrieval")
READERS: dict[str, Callable[[Path], Rows]] = {"datacomp": read_datacomp, "clip-retrieval": read_clip_retrieval}
