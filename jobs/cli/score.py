"""`clipmill score`"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ...pipeline.job.score import ScoreJob
from ..showing.amounts import every
from ..showing.console import out
from .options import Json

if TYPE_CHECKING:
    from ...pipeline import ScoreSummary


def score(job: ScoreJob, json_: Json = False) -> None:
    """Score a dataset's embeddings with published heads, or with ones of your own. Run again to resume."""
    from ...pipeline import score as run
    from ..showing.progress import DownloadProgress
    from ..showing.stage_bar import StageBar

    with DownloadProgress() as download, StageBar() as bar:
        summary = run(job, bar, download)
    print(json.dumps(summary.as_json())) if json_ else _show(job, summary)


def _show(job: ScoreJob, summary: ScoreSummary) -> None:
    counts = summary.counts
    if summary.parts == summary.parts_done_before:
        out.print(f"nothing to do: {every(summary.parts, 'part')} scored already")
    without = counts.rows - counts.scored
    lacks = "image" if job.pixels else "embedding"
    out.print(f"scores  {counts.rows:,} rows = {counts.scored:,} scored + {without:,} without an {lacks}")
    for name, identity in summary.scorers.items():
        out.print(f"{name}  {identity}")
    if counts.undefined:
        out.print(f"WARNING  {counts.undefined:,} scores are no number, and null", style="bold yellow")
    out.print(f"in {summary.out}")
