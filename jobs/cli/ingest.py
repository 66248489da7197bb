"""`clipmill ingest`"""

from __future__ import annotations

import json
from collections import Counter

from ...pipeline.job.ingest import IngestJob
from .options import Json


def ingest(job: IngestJob, json_: Json = False) -> None:
    """Download images into WebDataset shards, through img2dataset. Run again to go on, or when the lists have grown."""
    from ..ingesting.ingest import ingest as run
    from ..showing.amounts import counted
    from ..showing.console import out
    from ..showing.stage_bar import StageBar
    from ..showing.totals import show_failures

    with StageBar() as bar:
        summary = run(job, bar)
    if json_:
        print(json.dumps(summary.as_json()))
        return
    new = f"{summary.new_shards:,} new" if summary.new_shards else "none new"
    out.print(
        f"{summary.rows:,} URLs = {summary.downloaded:,} downloaded + {summary.failed:,} failed, "
        f"{counted(summary.shards, 'shard')}, {new}, {summary.seconds:,.1f} s"
    )
    show_failures(Counter(summary.failures))
    out.print(f"in {summary.out}")
