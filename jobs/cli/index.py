"""`clipmill index`"""

from __future__ import annotations

import json

from ...pipeline.job.index import IndexJob
from .options import Debug, Json


def index(job: IndexJob, json_: Json = False, debug: Debug = False) -> None:
    """Make an approximate index of a dataset for `search` and `serve`, and measure its recall. Run again to resume."""
    from ...pipeline import index as run
    from ..showing.search import show_index
    from ..showing.show import DownloadProgress
    from ..showing.stage_bar import StageBar

    with DownloadProgress("copying embeddings") as copying, StageBar() as bar:
        summary = run(job, bar, copying)
    print(json.dumps(summary.as_json())) if json_ else show_index(summary)
