"""`clipmill filter`"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ...pipeline.job.filter import FilterJob
from ..showing.amounts import counted
from ..showing.console import out
from .options import Json

if TYPE_CHECKING:
    from ...pipeline import FilterSummary


def filter(job: FilterJob, json_: Json = False) -> None:
    """Choose a subset of a dataset: by SQL, the best share by a score, DataComp's baselines; counted by reason."""
    from ...pipeline import filter as run
    from ..showing.stage_bar import StageBar

    with StageBar() as bar:
        summary = run(job, bar)
    print(json.dumps(summary.as_json())) if json_ else _show(summary)


def _show(summary: FilterSummary) -> None:
    from ..showing.funnel import show_funnel

    if summary.done_before:
        out.print("nothing to do: this subset is finished already")
    elif summary.parts_done_before:
        fresh = summary.parts - summary.parts_done_before
        out.print(f"{fresh:,} of {counted(summary.parts, 'part')} judged; the others stay as they are")
    show_funnel(summary.funnel)
    if summary.uids:
        out.print(f"uids in {summary.uids}")
    out.print(f"in {summary.out}" if summary.out else "counted only; nothing is written")
