"""The rows of a dataset by number: 0 for the first row of the first part, on through the parts in the plan's order."""

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
from ..dataset.manifest import read_manifest
from ..dataset.sql import check_condition, complaint, connect
from ..dataset.subset import Subset
from ..records import Shard

Mask = npt.NDArray[np.bool_]  # [rows of the dataset]

_AT_ONCE = 8  # parts read from at the same time: against latency
_ROWS = 1 << 17  # a batch of DuckDB's


@dataclass(frozen=True)
class Places:
    """`starts`: where each part's rows begin, int64 [parts + 1]; a part's row is its place less its start."""

    dataset: Dataset
    starts: npt.NDArray[np.int64]

    @classmethod
    def of(cls, dataset: Dataset) -> Places:
        """By the manifest, and by the footers of parts that are not in it."""
        known = read_manifest(dataset.output).true_to(dict(zip(dataset.parts, dataset.sizes, strict=True))).table
        counts = dict(zip(known["part"].to_pylist(), known["rows"].to_pylist(), strict=True))
        unknown = [part for part in dataset.parts if part not in counts]
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="rows") as pool:
            counts |= zip(unknown, pool.map(lambda part: _rows_of(dataset, part), unknown), strict=True)
        return cls(dataset, np.cumsum([0, *(counts[part] for part in dataset.parts)], dtype=np.int64))

    def __len__(self) -> int:
        return int(self.starts[-1])

    def mask(self, where: str | None = None, within: Subset | None = None, option: str = "--where") -> Mask:
        """Which rows SQL and a subset leave. UserError, naming the option, for SQL that DuckDB refuses."""
        condition = f" WHERE (\n{where}\n)" if where else ""  # the line ends before what may be a comment does
        mask = np.zeros(len(self), dtype=np.bool_)
        with connect(self.dataset, within) as connection:
            if where:
                check_condition(connection, where, option)
            try:
                for places in self._found(connection.sql(f"SELECT shard, row FROM pairs{condition}")):
                    mask[places] = True
            except duckdb.Error as error:
                if where is None:
                    raise
                raise complaint(error, option) from error
        return mask

    def of_key(self, key: str) -> int | None:
        """The first row of that key: keys need not be unique."""
        with connect(self.dataset) as connection:
            rows = connection.sql("SELECT shard, row FROM pairs WHERE key = $key", params={"key": key})
            return min((int(places.min()) for places in self._found(rows) if len(places)), default=None)

    def read(self, places: Sequence[int], columns: Sequence[str]) -> list[dict[str, Any]]:
        """Some columns of some rows, in the order given. Of each part only the row groups that hold them are read."""
        parts = np.searchsorted(self.starts, places, side="right") - 1
        wanted = groupby(sorted(zip(parts.tolist(), places, strict=True)), lambda each: each[0])
        by_part = {part: [place for _, place in group] for part, group in wanted}
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="rows") as pool:
            tables = pool.map(partial(self._read_part, columns=list(columns)), by_part, by_part.values())
            found = {place: row for table in tables for place, row in table}
        return [found[place] for place in places]

    def _read_part(self, number: int, places: list[int], columns: list[str]) -> list[tuple[int, dict[str, Any]]]:
        rows = [place - int(self.starts[number]) for place in places]
        with self.dataset.output.open(self.dataset.parts[number]) as source:
            file = pq.ParquetFile(source)
            tables = list(_rows(file, rows, columns))
        return list(zip(places, pa.concat_tables(tables).to_pylist(), strict=True))

    def _found(self, rows: duckdb.DuckDBPyRelation) -> Iterator[npt.NDArray[np.int64]]:
        """The places of what a query for `shard, row` finds."""
        begins = dict(zip(self.dataset.parts, self.starts.tolist(), strict=False))
        for batch in rows.to_arrow_reader(_ROWS):
            shards = batch.column(0).cast(pa.string()).dictionary_encode()
            begin = np.array([begins[Shard(url).part_name] for url in shards.dictionary.to_pylist()], dtype=np.int64)
            yield begin[shards.indices.to_numpy()] + batch.column(1).to_numpy()


def _rows_of(dataset: Dataset, part: str) -> int:
    with dataset.output.open(part) as file:
        return int(pq.ParquetFile(file).metadata.num_rows)


def _rows(file: pq.ParquetFile, rows: list[int], columns: list[str]) -> Iterator[pa.Table]:
    """rows: ascending, of the whole file."""
    start = 0
    for number in range(file.metadata.num_row_groups):
        stop = start + file.metadata.row_group(number).num_rows
        if inside := [row - start for row in rows if start <= row < stop]:
            yield file.read_row_group(number, columns=columns).take(inside)
        start = stop
