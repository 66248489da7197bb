"""`clipmill reshard`"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ...pipeline.job.reshard import ReshardJob
from ..showing.amounts import counted, every, size
from ..showing.console import out
from .options import Json

if TYPE_CHECKING:
    from ...pipeline import ReshardSummary


def reshard(job: ReshardJob, json_: Json = False) -> None:
    """Write new WebDataset shards of a subset, images and json byte for byte as they were. Run again to resume."""
    from ...pipeline import reshard as run
    from ..showing.stage_bar import StageBar

    with StageBar() as bar:
        summary = run(job, bar)
    print(json.dumps(summary.as_json())) if json_ else _show(summary)


def _show(summary: ReshardSummary) -> None:
    if not summary.samples:
        out.print("nothing to do: no sample is left to write")
    elif summary.shards == summary.shards_done_before:
        out.print(f"nothing to do: {every(summary.shards, 'shard')} written already")
    else:
        out.print(
            f"wrote {summary.shards - summary.shards_done_before:,} of {counted(summary.shards, 'shard')}, "
            f"{size(summary.tar_bytes)}, {summary.seconds:,.1f} s"
        )
        out.print(
            f"read {counted(summary.requests, 'range')}, {size(summary.request_bytes)}, and "
            f"{counted(summary.whole_shards, 'source shard')} whole"
        )
    out.print(f"{counted(summary.samples, 'sample')} in {counted(summary.shards, 'shard')}")
    out.print(f"in {summary.out}")
