"""`clipmill dedup`"""

from __future__ import annotations

import json

from ...pipeline.job.dedup import DedupJob
from .options import Debug, Json


def dedup(job: DedupJob, json_: Json = False, debug: Debug = False) -> None:
    """A subset without duplicates: equal files, and embeddings near each other; the best of each group stays."""
    from ...pipeline import dedup as run
    from ..showing.funnel import show_dedup
    from ..showing.stage_bar import StageBar

    with StageBar() as bar:
        summary = run(job, bar)
    print(json.dumps(summary.as_json())) if json_ else show_dedup(summary)
