"""`clipmill report`"""

from __future__ import annotations

import json

from ...pipeline.job.report import ReportJob
from .options import Debug, Json


def report(job: ReportJob, json_: Json = False, debug: Debug = False) -> None:
    """A dataset on one page: counts, failures, similarity, sizes, labels, pictures, how it was made."""
    from ...pipeline import report as run
    from ..showing.report import show_report

    made = run(job)
    print(json.dumps(made.as_json())) if json_ else show_report(made)
