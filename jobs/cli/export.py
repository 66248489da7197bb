"""`clipmill export`"""

from __future__ import annotations

import json

from ...pipeline.job import ExportJob
from .from_job import takes_job
from .options import Debug, Json


@takes_job
def export(job: ExportJob, json_: Json = False, debug: Debug = False) -> None:
    """Write a dataset as other tools read it: DataComp, clip-retrieval, Iceberg, Lance. Run again to resume."""
    from ...pipeline import export as run
    from ..show_export import show_export
    from ..stage_bar import StageBar

    with StageBar() as bar:
        made = run(job, bar)
    print(json.dumps(made.as_json())) if json_ else show_export(made)
