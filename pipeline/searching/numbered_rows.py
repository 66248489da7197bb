"""The rows of a dataset by position: 0 for the first row of the first part, and on through the parts in their order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from ..dataset.dataset import Dataset
from ..dataset.layout import part_path
from ..dataset.manifest_files import read_manifest
from ..dataset.sql import check_condition, complaint, connect, only_named
from ..dataset.subset import Subset

Mask = npt.NDArray[np.bool_]  # [rows of the dataset]

_AT_ONCE = 8  # parts read from at the same time: against latency
_ROWS = 1 << 17  # a batch of DuckDB's


@dataclass(frozen=True)
class NumberedRows:
    """`starts`: the position of each part's first row, and the number of rows in all, int64 [parts + 1]."""

    dataset: Dataset
    starts: npt.NDArray[np.int64]

    @classmethod
    def of(cls, dataset: Dataset) -> NumberedRows:
        """Counted by the manifest, and by the footers of parts that are not in it."""
        now = pa.array(dataset.parts, pa.string()), pa.array(dataset.sizes, pa.int64())
        known = read_manifest(dataset.output).true_to(*now, by="part")
        counts = dict(zip(known.column("part").to_pylist(), known.column("rows").to_pylist(), strict=True))
        unknown = [part for part in dataset.parts if part not in counts]
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="rows") as pool:
            counts |= zip(unknown, pool.map(lambda part: _count(dataset, part), unknown), strict=True)
        return cls(dataset, np.cumsum([0, *(counts[part] for part in dataset.parts)], dtype=np.int64))

    def __len__(self) -> int:
        return int(self.starts[-1])

    def mask(self, where: str | None = None, within: Subset | None = None, option: str = "--where") -> Mask:
        """The rows of a subset that meet a condition in SQL. UserError, which names the option, for wrong SQL."""
        condition = f" WHERE (\n{where}\n)" if where else ""  # the line ends before what may be a comment does
        mask = np.zeros(len(self), dtype=np.bool_)
        with connect(only_named(self.dataset, [where or ""]), within) as connection:
            if where:
                check_condition(connection, where, option)
            try:
                for positions in self._positions(connection.sql(f"SELECT shard, row FROM pairs{condition}")):
                    mask[positions] = True
            except duckdb.Error as error:
                if where is None:
                    raise
                raise complaint(error, option) from error
        return mask

    def of_key(self, key: str) -> list[int]:
        """The positions of the rows of that key, ascending: keys need not be unique."""
        with connect(self.dataset) as connection:
            rows = connection.sql("SELECT shard, row FROM pairs WHERE key = $key", params={"key": key})
            return sorted(position for positions in self._positions(rows) for position in positions.tolist())

    def read(self, positions: Sequence[int], columns: Sequence[str]) -> list[dict[str, Any]]:
        """Some columns of some rows, in the order given. Of each part only the row groups that hold them are read."""
        parts = np.searchsorted(self.starts, positions, side="right") - 1
        grouped = groupby(sorted(zip(parts.tolist(), positions, strict=True)), lambda pair: pair[0])
        by_part = {part: [position for _, position in group] for part, group in grouped}
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="rows") as pool:
            parts_rows = pool.map(partial(self._read_part, columns=list(columns)), by_part, by_part.values())
            rows = {position: row for part_rows in parts_rows for position, row in part_rows}
        return [rows[position] for position in positions]

    def _read_part(self, number: int, positions: list[int], columns: list[str]) -> list[tuple[int, dict[str, Any]]]:
        rows = [position - int(self.starts[number]) for position in positions]
        table = self.dataset.take(self.dataset.parts[number], rows, columns)
        return list(zip(positions, table.to_pylist(), strict=True))

    def _positions(self, rows: duckdb.DuckDBPyRelation) -> Iterator[npt.NDArray[np.int64]]:
        """The positions of the rows that a query for `shard, row` returns, a batch at a time."""
        begins = dict(zip(self.dataset.shards(), self.starts.tolist(), strict=False))
        for batch in rows.to_arrow_reader(_ROWS):
            shards = batch.column(0).cast(pa.string()).dictionary_encode()
            begin = np.array([begins[url] for url in shards.dictionary.to_pylist()], dtype=np.int64)
            yield begin[shards.indices.to_numpy()] + batch.column(1).to_numpy()


def _count(dataset: Dataset, part: str) -> int:
    with dataset.output.open(part_path(part)) as file:
        return int(pq.ParquetFile(file).metadata.num_rows)
