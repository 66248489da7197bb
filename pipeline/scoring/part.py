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

from ..dataset.dataset import Dataset, vectors_of
from ..dataset.layout import part_path
from ..dataset.output import Output
from ..dataset.source import PART, source_of
from .scorers import Scorer

_ROWS = 1 << 13  # at once: 32 MB of the widest embeddings
_COUNTS = b"clipmill.scores"


@dataclass(frozen=True)
class ScoreCounts:
    """rows = scored + those without an embedding."""

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
    column: str  # of the embeddings
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
        counts, columns = ScoreCounts(), ["key", "shard", "row", self.column, "error"]
        with pq.ParquetWriter(path, score_schema(self.scorers), compression="zstd") as writer:
            for batch in self.dataset.only([part]).batches(columns, _ROWS):
                table, batch_counts = self._scores(batch)
                writer.write_table(table)
                counts += batch_counts
            writer.add_key_value_metadata({PART: source, _COUNTS: json.dumps(asdict(counts))})
        return counts

    def _scores(self, batch: pa.RecordBatch) -> tuple[pa.Table, ScoreCounts]:
        vectors, present = vectors_of(batch[self.column])
        columns: dict[str, Any] = {name: batch[name] for name in ("key", "shard", "row", "error")}
        undefined = 0
        for scorer in self.scorers:
            values = scorer(vectors[present]) if present.any() else {}
            for name, kind in scorer.types.items():
                columns[name] = _spread(values[name], present, kind) if name in values else pa.nulls(len(batch), kind)
                undefined += int(present.sum()) - len(batch) + columns[name].null_count if name in values else 0
        schema = score_schema(self.scorers)
        table = pa.table([columns[field.name] for field in schema], schema=schema)
        return table, ScoreCounts(len(batch), int(present.sum()), undefined)


def _spread(values: npt.NDArray[Any], present: npt.NDArray[np.bool_], kind: pa.DataType) -> pa.Array:
    """Values of the rows that have an embedding, among all rows; NaN is null."""
    own = pa.array(values, kind, from_pandas=True)  # which makes NaN null
    return own.take(pa.array(np.cumsum(present) - 1, mask=~present))
