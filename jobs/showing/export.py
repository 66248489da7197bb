"""What people see of `clipmill export`."""

from __future__ import annotations

from ...pipeline.exporting.export import Export
from .show import out


def show_export(made: Export) -> None:
    if made.files == made.done_before:
        out.print(f"nothing to do: it is in {made.out} already", markup=False)
    incomplete = f" + {made.incomplete:,} without image or caption" if made.incomplete else ""
    out.print(
        f"rows        {made.rows:,} = {made.exported:,} exported + {made.failed:,} failed{incomplete}", markup=False
    )
    for note in made.notes:
        out.print(f"note        {note}", markup=False)
    out.print(f"{made.to} in {made.out}", markup=False)
