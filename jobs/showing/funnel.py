"""What people see of subsets: how many rows came in, which went for what reason, how many stay."""

from __future__ import annotations

from ...pipeline.dataset.subset import Funnel
from ...pipeline.deduplication.dedup import DedupSummary
from ...pipeline.filtering.filter import FilterSummary
from .show import out

_SIZES = 10  # of groups; --json has them all


def show_funnel(funnel: Funnel) -> None:
    width = max(map(len, ("rows", "kept", *funnel.dropped)))
    for name, count in (("rows", funnel.rows), *((reason, -n) for reason, n in funnel.dropped.items() if n)):
        out.print(f"  {name:<{width}}  {count:>13,}", markup=False)
    share = f"  {funnel.kept / funnel.rows:.1%}" if funnel.rows else ""
    out.print(f"  {'kept':<{width}}  {funnel.kept:>13,}{share}", markup=False)


def show_filter(summary: FilterSummary) -> None:
    if summary.done_before:
        out.print("nothing to do: this subset is finished already", markup=False)
    show_funnel(summary.funnel)
    if summary.uids:
        out.print(f"uids in {summary.uids}", markup=False)
    out.print(f"in {summary.out}", markup=False)


def show_dedup(summary: DedupSummary) -> None:
    if summary.done_before:
        out.print("nothing to do: this subset is finished already", markup=False)
    show_funnel(summary.funnel)
    groups = sorted(summary.groups.items())
    said = ", ".join(f"{count:,} of {size:,}" for size, count in groups[:_SIZES])
    more = f", {sum(count for _, count in groups[_SIZES:]):,} larger" if len(groups) > _SIZES else ""
    if groups:
        out.print(f"groups of duplicates  {sum(summary.groups.values()):,}: {said}{more}", markup=False)
    out.print(f"in {summary.out}", markup=False)
