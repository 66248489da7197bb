"""A subset's funnel: how many rows came in, how many went for which reason, how many stay."""

from __future__ import annotations

from ...pipeline.dataset.subset import Funnel
from .console import out


def show_funnel(funnel: Funnel) -> None:
    width = max(map(len, ("rows", "kept", *funnel.dropped)))
    for name, count in (("rows", funnel.rows), *((reason, -n) for reason, n in funnel.dropped.items() if n)):
        out.print(f"  {name:<{width}}  {count:>13,}")
    share = f"  {funnel.kept / funnel.rows:.1%}" if funnel.rows else ""
    out.print(f"  {'kept':<{width}}  {funnel.kept:>13,}{share}")
