"""`clipmill filter`"""

from __future__ import annotations

import json

from ...pipeline.job.filter import FilterJob
from .options import Debug, Json


def filter(job: FilterJob, json_: Json = False, debug: Debug = False) -> None:
    """A subset of a dataset: conditions in SQL, the best share by a score, DataComp's baselines; counted by reason."""
    from ...pipeline import filter as run
    from ..showing.funnel import show_filter
    from ..showing.stage_bar import StageBar

    with StageBar() as bar:
        summary = run(job, bar)
    print(json.dumps(summary.as_json())) if json_ else show_filter(summary)
