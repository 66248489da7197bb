"""`clipmill index`"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ...pipeline.job.index import IndexJob
from ..showing.console import out
from .options import Json

if TYPE_CHECKING:
    from ...pipeline import IndexSummary


def index(job: IndexJob, json_: Json = False) -> None:
    """Make an approximate index of a dataset for `search` and `serve`, and measure its recall. Run again to resume."""
    from ...pipeline import index as run
    from ..showing.stage_bar import StageBar

    with StageBar() as bar:
        summary = run(job, bar)
    print(json.dumps(summary.as_json())) if json_ else _show(summary)


def _show(summary: IndexSummary) -> None:
    card = summary.card
    if summary.done_before:
        out.print("nothing to do: the index is of the dataset as it is")
    cells = f", {card.nlist:,} cells" if card.nlist else ""
    out.print(f"index       {card.kind} of {card.vectors:,} vectors in {card.rows:,} rows{cells}")
    if card.recall:
        recall = ", ".join(f"{share:.1%} for {side}s" for side, share in card.recall.items())
        out.print(f"recall@10   {recall}")
        out.print(f"a query     {card.seconds * 1e3:,.1f} ms; exact search about {card.exact_seconds * 1e3:,.1f} ms")
    else:
        out.print("recall@10   exact: so few vectors need no index")
    out.print(f"in {summary.out}")
