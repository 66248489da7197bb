"""`clipmill embed`"""

from __future__ import annotations

import json
import threading

from ...pipeline.job.embed import EmbedJob
from .options import Json


def embed(job: EmbedJob, json_: Json = False) -> None:
    """Embed and score image-text shards into Parquet, one part a shard. Run again to resume."""
    from ...pipeline import embed as run
    from ...pipeline.errors import StoppedError, TooManyFailuresError
    from ...pipeline.running.events import Event, WorkersStarted
    from ..showing.log import embed_progress
    from ..showing.progress import DownloadProgress
    from ..showing.totals import show_summary
    from .interrupts import stop_requested

    working = threading.Event()
    try:
        with stop_requested(working.is_set) as stop, DownloadProgress() as download, embed_progress() as progress:

            def see(event: Event) -> None:
                if isinstance(event, WorkersStarted):
                    working.set()
                progress(event)

            summary = run(job, see, download, stop)
    except (StoppedError, TooManyFailuresError) as error:
        if json_ and error.summary:
            print(json.dumps(error.summary.as_json()))
        raise
    print(json.dumps(summary.as_json())) if json_ else show_summary(summary)
