"""`clipmill export`"""

from __future__ import annotations

import json

from ...pipeline.job.export import ExportJob
from .options import Debug, Json


def export(job: ExportJob, json_: Json = False, debug: Debug = False) -> None:
    """Write a dataset as other tools read it: DataComp, clip-retrieval, Iceberg, Lance. Run again to resume."""
    from ...pipeline import export as run
    from ..showing.export import show_export
    from ..showing.stage_bar import StageBar

    with StageBar() as bar:
        made = run(job, bar)
    print(json.dumps(made.as_json())) if json_ else show_export(made)
