"""`clipmill export`"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ...pipeline.job.export import ExportJob
from ..showing.console import out
from .options import Json

if TYPE_CHECKING:
    from ...pipeline import Export


def export(job: ExportJob, json_: Json = False) -> None:
    """Write a dataset as other tools read it: DataComp, clip-retrieval, Iceberg, Lance. Run again to resume."""
    from ...pipeline import export as run
    from ..showing.stage_bar import StageBar

    with StageBar() as bar:
        result = run(job, bar)
    print(json.dumps(result.as_json())) if json_ else _show(result)


def _show(export: Export) -> None:
    if export.files == export.done_before:
        out.print(f"nothing to do: it is in {export.out} already")
    incomplete = f" + {export.incomplete:,} without image or caption" if export.incomplete else ""
    out.print(f"rows        {export.rows:,} = {export.exported:,} exported + {export.failed:,} failed{incomplete}")
    for note in export.notes:
        out.print(f"note        {note}")
    out.print(f"{export.to} in {export.out}")
