"""The groups of duplicates that a finished `dedup` leaves beside its subset."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..dataset.dataset import Dataset
from ..dataset.derived import begun
from ..dataset.layout import OWN
from ..dataset.output import Output
from ..dataset.sql import files, register_storage
from ..dataset.subset import Subset
from ..errors import InputError

GROUPS = f"{OWN}/groups.parquet"
_ROWS = 1 << 17  # read at a time


SCHEMA = pa.schema(
    [("key", pa.string()), ("shard", pa.string()), ("row", pa.int32()), ("group", pa.int64()), ("kept", pa.bool_())]
)


def sizes(output: Output) -> dict[int, int]:
    """Rows in a group -> number of groups with as many. Groups follow each other in the file, which is streamed."""
    counted: Counter[int] = Counter()
    last, rows = -1, 0  # the group that the next batch may go on with
    with output.open(GROUPS) as file:
        for batch in pq.ParquetFile(file).iter_batches(_ROWS, columns=["group"]):
            groups, counts = np.unique(batch["group"].to_numpy(), return_counts=True)
            if groups[0] == last:
                counts[0] += rows
            elif rows:
                counted[rows] += 1
            last, rows = int(groups[-1]), int(counts[-1])
            lengths, times = np.unique(counts[:-1], return_counts=True)
            counted.update(dict(zip(lengths.tolist(), times.tolist(), strict=True)))
    if rows:
        counted[rows] += 1
    return dict(sorted(counted.items()))


@dataclass(frozen=True)
class DuplicateGroups:
    """Of a dataset. settings: those that `dedup` was run with."""

    output: Output
    settings: dict[str, Any]

    @classmethod
    def open(cls, url: str, dataset: Dataset) -> DuplicateGroups:
        """InputError for what is no subset by `dedup` of this dataset."""
        Subset.open(url, dataset.output.storage_options).check_fits(dataset)
        groups = cls.of(Output.at(url, dataset.output.storage_options))
        if groups is None:
            raise InputError(f"{url} has no groups of duplicates: name the folder given to `clipmill dedup --out`")
        return groups

    @classmethod
    def of(cls, output: Output) -> DuplicateGroups | None:
        """Of a subset; None where another step wrote it."""
        started = begun(output)
        return cls(output, started[1]) if started is not None and started[0] == "dedup" else None

    @property
    def threshold(self) -> float | None:
        """Cosine from which two embeddings are near duplicates; None where only equal files were looked for."""
        near = self.settings["near"]
        return near["threshold"] if near else None

    @property
    def column(self) -> str:
        """Of the embeddings that were compared."""
        alias = self.settings["model"]
        return f"{alias}_{self.settings['for']}_embedding" if alias else f"{self.settings['for']}_embedding"

    def counts(self, connection: duckdb.DuckDBPyConnection) -> tuple[int, int]:
        """How many groups, and how many rows in them all."""
        query = f'SELECT coalesce(max("group") + 1, 0), count(*) FROM {self._source(connection)}'
        ((groups, rows),) = connection.execute(query).fetchall()
        return groups, rows

    def largest(
        self, connection: duckdb.DuckDBPyConnection, most: int, members: int
    ) -> list[tuple[int, list[tuple[str, int]]]]:
        """Of the largest groups the number of rows, and shard and row of some of these, the one that stays first."""
        source = self._source(connection)
        found = connection.execute(
            f"""
            WITH largest AS (
                SELECT "group", count(*) AS size FROM {source} GROUP BY "group" ORDER BY size DESC, "group" LIMIT {most}
            )
            SELECT "group", size, shard, row FROM {source} JOIN largest USING ("group")
            QUALIFY row_number() OVER (PARTITION BY "group" ORDER BY kept DESC, shard, row) <= {members}
            ORDER BY size DESC, "group", kept DESC, shard, row
            """
        ).fetchall()
        by_group: dict[int, tuple[int, list[tuple[str, int]]]] = {}
        for group, size, shard, row in found:
            by_group.setdefault(group, (size, []))[1].append((shard, row))
        return list(by_group.values())

    def _source(self, connection: duckdb.DuckDBPyConnection) -> str:
        register_storage(connection, self.output.url, self.output.storage_options)
        return files([f"{self.output.url}/{GROUPS}"])
