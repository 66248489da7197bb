"""`clipmill reshard`"""

from __future__ import annotations

import json

from ...pipeline.job.reshard import ReshardJob
from .options import Debug, Json


def reshard(job: ReshardJob, json_: Json = False, debug: Debug = False) -> None:
    """New WebDataset shards of a subset, images and json byte for byte as they were. Run again to resume."""
    from ...pipeline import reshard as run
    from ..showing.reshard import show_reshard
    from ..showing.stage_bar import StageBar

    with StageBar() as bar:
        summary = run(job, bar)
    print(json.dumps(summary.as_json())) if json_ else show_reshard(summary)
