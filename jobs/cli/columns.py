"""`clipmill columns`"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ...pipeline.job.columns import ColumnsJob
from ..showing.amounts import every
from ..showing.console import out
from .options import Json

if TYPE_CHECKING:
    from ...pipeline import ColumnsSummary


def columns(job: ColumnsJob, json_: Json = False) -> None:
    """Copy more fields of a dataset's samples, beside it: without its images or a model. Run again to resume."""
    from ...pipeline import columns as run
    from ..showing.stage_bar import StageBar

    with StageBar() as bar:
        summary = run(job, bar)
    print(json.dumps(summary.as_json())) if json_ else _show(summary)


def _show(summary: ColumnsSummary) -> None:
    if summary.parts == summary.parts_done_before:
        out.print(f"nothing to do: {every(summary.parts, 'part')} copied already")
    width = max(map(len, summary.values))
    for name, values in summary.values.items():
        out.print(f"{name:<{width}}  {values:,} of {summary.rows:,} rows have a value")
    out.print(f"in {summary.out}")
