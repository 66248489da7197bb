"""The sums of a report, of whatever a connection has."""

from __future__ import annotations

import duckdb
from clipmill.pipeline.dataset.dataset import Dataset
from clipmill.pipeline.reporting.frame import Frame
from clipmill.pipeline.reporting.sums import Scheme, add_up, bins_of

MANY = 1 << 20  # rows that recipes judge


def scheme_of(dataset: Dataset) -> Scheme:
    """Without labels and recipes."""
    columns = {model.alias: f"{model.prefix}similarity" for model in dataset.models}
    return Scheme(columns, dataset.models[0].alias, (), by_source=True)


def sum_up(connection: duckdb.DuckDBPyConnection, scheme: Scheme, source: str = "pairs") -> None:
    """Makes the table `sums`. source: a table or view."""
    rows, bins = bins_of(connection, scheme, source)
    add_up(connection, scheme, Frame.of(bins, rows, MANY), source)
