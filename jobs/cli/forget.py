"""`clipmill forget`"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ...pipeline.job.forget import ForgetJob
from ..showing.amounts import counted
from ..showing.console import out
from .options import Json

if TYPE_CHECKING:
    from ...pipeline import ForgetSummary


def forget(job: ForgetJob, json_: Json = False) -> None:
    """Leave rows out of every step from now on; with --purge, delete them wherever clipmill wrote them."""
    from ...pipeline import forget as run
    from ..showing.stage_bar import StageBar

    with StageBar() as bar:
        summary = run(job, bar)
    print(json.dumps(summary.as_json())) if json_ else _show(job, summary)


def _show(job: ForgetJob, summary: ForgetSummary) -> None:
    if job.count:
        where = f"{counted(summary.new, 'row')} in {counted(summary.new_parts, 'part')}"
        out.print(f"{where} would be forgotten, of {counted(summary.asked, 'value')}")
        return
    if job.lists:
        where = f"{counted(summary.new, 'row')} more in {counted(summary.new_parts, 'part')}"
        out.print(f"forgot      {where}, of {counted(summary.asked, 'value')}")
    out.print(f"forgotten   {counted(summary.forgotten, 'row')}")
    if job.purge:
        out.print(f"purged      {counted(summary.purged, 'row')} in {counted(summary.purged_parts, 'part')}")
        for folder in summary.folders:
            if folder.step == "reshard":
                done = f"{counted(folder.rows, 'sample')} taken out of {counted(folder.rewritten, 'shard')}"
            elif folder.deleted:
                done = f"{counted(folder.deleted, 'file')} deleted; run the same `clipmill {folder.step}` again"
            else:
                done = "nothing to delete"
            out.print(f"            {folder.folder}: {done}")
    elif summary.pending:
        out.print(f"parts hold  {counted(summary.pending, 'row')} of them still; --purge deletes them")
    out.print(f"in {summary.dataset}")
