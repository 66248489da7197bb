"""The groups of duplicates that a finished `dedup` leaves beside its subset."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import pyarrow.parquet as pq

from ..dataset.dataset import Dataset
from ..dataset.derived import begun
from ..dataset.layout import OWN
from ..dataset.output import Output
from ..dataset.sql import files, register_storage
from ..dataset.subset import Subset
from ..errors import InputError

GROUPS = f"{OWN}/groups.parquet"


def sizes(output: Output) -> dict[int, int]:
    """Rows in a group -> number of groups with as many."""
    with output.open(GROUPS) as file:
        groups = pq.read_table(file, columns=["group"])["group"].to_numpy()
    counted, counts = np.unique(np.bincount(groups), return_counts=True)
    return dict(zip(counted.tolist(), counts.tolist(), strict=True))


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
