"""`clipmill report`"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ...pipeline.job.report import ReportJob
from ..showing.amounts import counted
from ..showing.console import out
from .options import Json

if TYPE_CHECKING:
    from ...pipeline import Report
    from ...pipeline.reporting.columns import ReportedColumn

_FRACTION = 0.3  # of the rows, whose threshold is shown


def report(job: ReportJob, json_: Json = False) -> None:
    """Write a page about a dataset: counts, failures, similarity, sizes, labels, pictures, how it was made."""
    from ...pipeline import report as run
    from ..showing.stage_bar import StageBar

    with StageBar() as bar:
        result = run(job, bar)
    print(json.dumps(result.as_json())) if json_ else _show(result)


def _told(column: ReportedColumn) -> str:
    from ...pipeline.reporting.columns import NumberColumn

    if not column.rows:
        return f"{column.name}: no row has a value"
    if not isinstance(column, NumberColumn):
        return f"{column.name}: {column.count:,} values in {column.rows:,} rows"
    cut = next(cut for cut in column.cuts if cut.fraction == _FRACTION)
    return f"{column.name}: mean {column.mean:.4g}; the top {_FRACTION:.0%}: >= {cut.threshold:.6g}, {cut.rows:,} rows"


def _show(report: Report) -> None:
    counts = report.numbers.counts
    out.print(f"rows        {counts.rows:,} = {counts.embedded:,} embedded + {counts.failed:,} failed")
    for similarity in report.numbers.similarities:
        cut = next(cut for cut in similarity.cuts if cut.fraction == _FRACTION)
        name = f"{similarity.alias}_similarity" if similarity.alias else "similarity"
        out.print(
            f"similarity  mean {similarity.mean:.3f}; the top {_FRACTION:.0%}: {name} >= {cut.threshold:.4f}, "
            f"{cut.rows:,} rows"
        )
    if report.labels:
        out.print(f"labels      {report.labels.images:,} images, {report.labels.classes:,} classes")
    if counts.rows:
        kept = ", ".join(f"{of.recipe} {of.kept / of.rows:.1%}" for of in report.recipes.counts if of.rows)
        out.print(f"recipes     {kept} would stay")
    for column in report.columns:
        out.print(f"column      {_told(column)}")
    if found := report.duplicates:
        among = f" among {counted(found.compared, 'image')}" if found.compared is not None else ""
        out.print(f"duplicates  {counted(found.rows, 'row')} in {counted(found.groups, 'group')}{among}")
    missing = f", {report.pictures_missing} could not be fetched" if report.pictures_missing else ""
    out.print(f"pictures    {report.pictures}{missing}")
    out.print(f"in {report.out}")
