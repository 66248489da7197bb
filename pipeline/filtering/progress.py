"""What a subset knows of each part of its dataset: how many rows stay, and how many go for each reason. So the next run
judges only what is new or has changed, and a run that was killed goes on."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..dataset.layout import OWN
from ..dataset.output import Output
from ..dataset.part import unpacked

COUNTS = f"{OWN}/counts.parquet"
_KEY, _THRESHOLD = b"clipmill.conditions", b"clipmill.threshold"


@dataclass
class Progress:
    """parts: the dataset's. counts: int64 [parts, steps + 1], zero for parts that are not done."""

    parts: tuple[str, ...]
    stamps: Sequence[str]  # of each part, what it was judged from: another one, and it is judged again
    conditions: Mapping[str, Any]  # all that the judgement depends on besides, as JSON values, but for:
    threshold: float | None  # of the best share
    counts: npt.NDArray[np.int64]
    is_done: npt.NDArray[np.bool_]

    def __post_init__(self) -> None:
        self._number = {part: number for number, part in enumerate(self.parts)}

    @classmethod
    def begin(
        cls, parts: tuple[str, ...], stamps: Sequence[str], conditions: Mapping[str, Any], width: int
    ) -> Progress:
        """With nothing done. width: of `counts`."""
        return cls(parts, stamps, conditions, None, np.zeros((len(parts), width), np.int64), np.zeros(len(parts), bool))

    def load(self, output: Output) -> None:
        """What earlier runs with the same conditions have done, of the parts that are as they were and whose files are
        there."""
        with suppress(pa.ArrowException, OSError, KeyError, ValueError):  # a damaged one tells nothing
            content = output.read(COUNTS)
            table = unpacked(content) if content else pa.table({})
            metadata = table.schema.metadata or {}
            if content and json.loads(metadata[_KEY]) == json.loads(json.dumps(self.conditions)):
                self._take(table, output.parts())
                self.threshold = json.loads(metadata[_THRESHOLD])

    def _take(self, table: pa.Table, written: Collection[str]) -> None:
        parts, stamps = pa.array(self.parts, pa.string()), pa.array(self.stamps, pa.string())
        places = pc.index_in(parts, value_set=table["part"].combine_chunks())
        same = pc.fill_null(pc.equal(table["stamp"].combine_chunks().take(places), stamps), False)
        mine = np.flatnonzero(same.to_numpy(zero_copy_only=False))
        theirs = places.take(pa.array(mine)).to_numpy(zero_copy_only=False).astype(np.int64)
        counts = table["counts"].combine_chunks().flatten().to_numpy().reshape(len(table), -1)[theirs]
        if counts.shape[1:] != self.counts.shape[1:]:
            raise ValueError("other conditions")
        there = np.array([self.parts[number] in written for number in mine.tolist()], bool)
        intact = (counts[:, -1] > 0) == there
        self.counts[mine[intact]], self.is_done[mine[intact]] = counts[intact], True

    def forget(self, parts: Iterable[str]) -> npt.NDArray[np.int64]:
        """They are to be judged again. Returns their counts."""
        numbers = [self._number[part] for part in parts]
        counts = self.counts[numbers]
        self.counts[numbers], self.is_done[numbers] = 0, False
        return counts

    def add(self, parts: Sequence[str], counts: npt.NDArray[np.int64]) -> None:
        numbers = [self._number[part] for part in parts]
        self.counts[numbers], self.is_done[numbers] = counts, True

    @property
    def todo(self) -> list[str]:
        return [self.parts[number] for number in np.flatnonzero(~self.is_done).tolist()]

    @property
    def done(self) -> list[str]:
        return [self.parts[number] for number in np.flatnonzero(self.is_done).tolist()]

    @property
    def written(self) -> frozenset[str]:
        """The parts that rows stay of."""
        return frozenset(self.parts[number] for number in np.flatnonzero(self.counts[:, -1]).tolist())

    def save(self, output: Output) -> None:
        done = np.flatnonzero(self.is_done).tolist()
        width = self.counts.shape[1]
        table = pa.table(
            {
                "part": pa.array([self.parts[number] for number in done], pa.string()),
                "stamp": pa.array([self.stamps[number] for number in done], pa.string()),
                "counts": pa.FixedSizeListArray.from_arrays(pa.array(self.counts[done].reshape(-1)), width),
            }
        )
        told = {_KEY: json.dumps(self.conditions), _THRESHOLD: json.dumps(self.threshold)}
        with output.staged(COUNTS, replace=True) as path:
            pq.write_table(table.replace_schema_metadata(told), path, compression="zstd")
