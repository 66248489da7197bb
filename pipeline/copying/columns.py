"""Columns that were not asked for at first: copied from the samples' json later. No image is read, and no model."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

from ..dataset.columns import Column
from ..dataset.dataset import Dataset
from ..dataset.derived import begin
from ..dataset.output import Output
from ..errors import UserError
from ..job.columns import ColumnsJob
from ..job.readable import Result
from ..running import notebook
from ..running.scatter import scatter
from ..running.stages import OnStage, counted
from .part import CopyPart


@dataclass(frozen=True)
class ColumnsSummary(Result):
    """What `columns` returns."""

    out: str
    dataset: str
    rows: int
    values: dict[str, int]  # by column: rows that have one
    parts: int
    parts_done_before: int
    seconds: float

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "seconds": round(self.seconds, 3)}


def columns(job: ColumnsJob, on_stage: OnStage = notebook.stages) -> ColumnsSummary:
    """Writes a file of columns for each part of a dataset; run again to resume, or when the dataset has grown.

    A row without the field, or whose value the column's type cannot hold, has null. UserError for a wrong request and
    for shards that are gone or have changed since they were embedded, PlanMismatchError where OUT was begun with other
    columns.
    """
    began = time.monotonic()
    job.check()
    dataset = Dataset.open(job.dataset, job.storage_options)
    chosen = _columns(job, dataset)
    output = Output.at(job.out, job.storage_options).prepare()
    settings = {
        "dataset": dataset.url,
        "fingerprint": dataset.settings.digest,
        "columns": [f"{column.name}:{column.type}" for column in chosen],
    }
    begin(output, "columns", settings, job.overwrite)
    copy = CopyPart(dataset, output, chosen, frozenset(output.parts()))
    rows, values, fresh = 0, dict.fromkeys((column.name for column in chosen), 0), 0
    spread = scatter(copy, dataset.parts, job.address)
    for _, copied in counted(spread, "copying", "parts", len(dataset.parts), on_stage):
        rows, fresh = rows + copied.rows, fresh + copied.is_new
        values = {name: count + copied.values[name] for name, count in values.items()}
    parts, seconds = len(dataset.parts), time.monotonic() - began
    return ColumnsSummary(output.url, dataset.url, rows, values, parts, parts - fresh, seconds)


def _columns(job: ColumnsJob, dataset: Dataset) -> tuple[Column, ...]:
    chosen = tuple(map(Column.parse, job.columns))
    names = [column.name for column in chosen]
    for name in names:
        if name in dataset.schema.names:
            raise UserError(f"--column {name}: {dataset.url} has this column already; leave it out")
        if names.count(name) > 1:
            raise UserError(f"--column {name}: is given twice; give it once")
    return chosen
