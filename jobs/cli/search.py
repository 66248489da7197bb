"""`clipmill search`"""

from __future__ import annotations

import json

from ...pipeline.job.search import SearchJob
from .options import Debug, Json


def search(job: SearchJob, json_: Json = False, debug: Debug = False) -> None:
    """Find the pairs of a dataset that fit a text, an image or another pair best."""
    from ...pipeline import search as run
    from ..showing.search import show_found
    from ..showing.show import DownloadProgress

    with DownloadProgress() as download, DownloadProgress("copying embeddings") as copying:
        found = run(job, copying, download)
    print(json.dumps(found.as_json())) if json_ else show_found(found)
