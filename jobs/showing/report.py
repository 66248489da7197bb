"""What people see of `clipmill report`."""

from __future__ import annotations

from ...pipeline.reporting.report import Report
from .show import out

_FRACTION = 0.3


def show_report(made: Report) -> None:
    counts = made.numbers.counts
    out.print(f"rows        {counts.rows:,} = {counts.embedded:,} embedded + {counts.failed:,} failed", markup=False)
    for found in made.numbers.similarities:
        cut = next(cut for cut in found.cuts if cut.fraction == _FRACTION)
        name = f"{found.alias}_similarity" if found.alias else "similarity"
        out.print(
            f"similarity  mean {found.mean:.3f}; the top {_FRACTION:.0%}: {name} >= {cut.threshold:.4f}, "
            f"{cut.rows:,} rows",
            markup=False,
        )
    if made.labels:
        out.print(f"labels      {made.labels.images:,} images, {made.labels.classes:,} classes", markup=False)
    missing = f", {made.pictures_missing} could not be fetched" if made.pictures_missing else ""
    out.print(f"pictures    {made.pictures}{missing}", markup=False)
    out.print(f"in {made.out}", markup=False)
