"""Scores of one part of a dataset: a file of the same name, with a row for each of its rows, in their order."""

from __future__ import annotations

import json
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from ..dataset.dataset import Dataset
from ..dataset.layout import part_path
from ..dataset.output import Output
from ..dataset.source import PART, source_of
from .inputs import COLUMNS, Batch, Inputs
from .scorers import Scorer

_COUNTS = b"clipmill.scores"


@dataclass(frozen=True)
class ScoreCounts:
    """rows = scored + those without an embedding, or without an image where images are scored."""

    rows: int = 0
    scored: int = 0
    undefined: int = 0  # scores that are no number (NaN), and null in the file

    def __add__(self, other: ScoreCounts) -> ScoreCounts:
        return ScoreCounts(*(mine + theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True)))


def score_schema(scorers: tuple[Scorer, ...]) -> pa.Schema:
    return pa.schema(
        [
            pa.field("key", pa.string(), nullable=False),
            pa.field("shard", pa.dictionary(pa.int32(), pa.string()), nullable=False),
            pa.field("row", pa.int32(), nullable=False),
            *(pa.field(name, kind) for scorer in scorers for name, kind in scorer.types.items()),
            pa.field("error", pa.string()),  # the dataset's own
        ]
    )


@dataclass(frozen=True)
class ScorePart:
    """Scores a part. One that is scored already stays as it is, unless its source has changed."""

    dataset: Dataset
    output: Output
    inputs: Inputs
    scorers: tuple[Scorer, ...]
    done: frozenset[str]  # parts that have a file of scores

    def __call__(self, part: str) -> tuple[ScoreCounts, bool]:
        """The part's counts, and whether it was scored now."""
        source = source_of(self.dataset, part, None)
        if part in self.done and (counts := self._counts_of(part, source)) is not None:
            return counts, False
        with self.output.staged(part_path(part), replace=True) as path:
            return self._write(path, part, source), True

    def _counts_of(self, part: str, source: str) -> ScoreCounts | None:
        """What scores written before say; None where they are of another source."""
        with self.output.open(part_path(part)) as file:
            metadata = pq.ParquetFile(file).metadata.metadata or {}
        return ScoreCounts(**json.loads(metadata[_COUNTS])) if metadata.get(PART) == source.encode() else None

    def _write(self, path: Path, part: str, source: str) -> ScoreCounts:
        counts = ScoreCounts()
        with pq.ParquetWriter(path, score_schema(self.scorers), compression="zstd") as writer:
            for batch in self.inputs.batches(self.dataset, part):
                table, batch_counts = self._scores(batch)
                writer.write_table(table)
                counts += batch_counts
            writer.add_key_value_metadata({PART: source, _COUNTS: json.dumps(asdict(counts))})
        return counts

    def _scores(self, batch: Batch) -> tuple[pa.Table, ScoreCounts]:
        rows, values, present = batch
        columns: dict[str, Any] = {name: rows[name] for name in COLUMNS}
        undefined = 0
        for scorer in self.scorers:
            scores = scorer(values) if present.any() else {}
            for name, kind in scorer.types.items():
                columns[name] = _spread(scores[name], present, kind) if name in scores else pa.nulls(len(rows), kind)
                undefined += int(present.sum()) - len(rows) + columns[name].null_count if name in scores else 0
        schema = score_schema(self.scorers)
        table = pa.table([columns[field.name] for field in schema], schema=schema)
        return table, ScoreCounts(len(rows), int(present.sum()), undefined)


def _spread(values: npt.NDArray[Any], present: npt.NDArray[np.bool_], kind: pa.DataType) -> pa.Array:
    """Values of the rows that have one, among all rows; NaN is null."""
    own = pa.array(values, kind, from_pandas=True)  # which makes NaN null
    return own.take(pa.array(np.cumsum(present) - 1, mask=~present))
