"""`clipmill filter`"""

from __future__ import annotations

import json

from ...pipeline.job import FilterJob
from .from_job import takes_job
from .options import Debug, Json


@takes_job
def filter(job: FilterJob, json_: Json = False, debug: Debug = False) -> None:
    """A subset of a dataset: conditions in SQL, the best share by a score, DataComp's baselines; counted by reason."""
    from ...pipeline import filter as run
    from ..show_funnel import show_filter
    from ..stage_bar import StageBar

    with StageBar() as bar:
        summary = run(job, bar)
    print(json.dumps(summary.as_json())) if json_ else show_filter(summary)
