"""`clipmill label`"""

from __future__ import annotations

import json

from ...pipeline.job.label import LabelJob
from .options import Debug, Json


def label(job: LabelJob, json_: Json = False, debug: Debug = False) -> None:
    """Label a dataset's images with classes of your own, zero-shot, from their embeddings. Run again to resume."""
    from ...pipeline import label as run
    from ..showing.labels import show_labels
    from ..showing.show import DownloadProgress
    from ..showing.stage_bar import StageBar

    with DownloadProgress() as download, StageBar() as bar:
        summary = run(job, bar, download)
    print(json.dumps(summary.as_json())) if json_ else show_labels(summary)
