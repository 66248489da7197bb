"""`clipmill report`"""

from __future__ import annotations

import json

from ...pipeline.job import ReportJob
from .from_job import takes_job
from .options import Debug, Json


@takes_job
def report(job: ReportJob, json_: Json = False, debug: Debug = False) -> None:
    """A dataset on one page: counts, failures, similarity, sizes, labels, pictures, how it was made."""
    from ...pipeline import report as run
    from ..show_report import show_report

    made = run(job)
    print(json.dumps(made.as_json())) if json_ else show_report(made)
