"""`clipmill dedup`"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ...pipeline.job.dedup import DedupJob
from ..showing.console import out
from .options import Json

if TYPE_CHECKING:
    from ...pipeline import DedupSummary

_SIZES = 10  # of groups; --json has them all


def dedup(job: DedupJob, json_: Json = False) -> None:
    """Choose a subset without duplicates: of equal files and of near embeddings, the best of each group stays."""
    from ...pipeline import dedup as run
    from ..showing.stage_bar import StageBar

    with StageBar() as bar:
        summary = run(job, bar)
    print(json.dumps(summary.as_json())) if json_ else _show(summary)


def _show(summary: DedupSummary) -> None:
    from ..showing.funnel import show_funnel

    if summary.done_before:
        out.print("nothing to do: this subset is finished already")
    show_funnel(summary.funnel)
    groups = sorted(summary.groups.items())
    sizes = ", ".join(f"{count:,} of {size:,}" for size, count in groups[:_SIZES])
    larger = f", {sum(count for _, count in groups[_SIZES:]):,} larger" if len(groups) > _SIZES else ""
    if groups:
        out.print(f"groups of duplicates  {sum(summary.groups.values()):,}: {sizes}{larger}")
    out.print(f"in {summary.out}")
