"""What people see of `clipmill search` and `clipmill index`."""

from __future__ import annotations

from ...pipeline.searching.index import IndexSummary
from ...pipeline.searching.search import Found
from .show import out


def show_found(found: Found) -> None:
    """A line for each hit: rank, score, key, caption, url."""
    if not found.hits:
        out.print(f"nothing found: no row that is searched has an embedding of its {found.side}", markup=False)
    keys = max((len(hit.row["key"]) for hit in found.hits), default=0)
    for hit in found.hits:
        rest = [_line(hit.row.get(name)) for name in ("caption", "url")]
        words = "  ".join([f"{hit.rank:>3}  {hit.score:.4f}  {_line(hit.row['key']):<{keys}}", *filter(None, rest)])
        out.print(words.rstrip(), markup=False)


def show_index(summary: IndexSummary) -> None:
    card = summary.card
    if summary.done_before:
        out.print("nothing to do: the index is of the dataset as it is", markup=False)
    cells = f", {card.nlist:,} cells" if card.nlist else ""
    out.print(f"index       {card.kind} of {card.vectors:,} vectors in {card.rows:,} rows{cells}", markup=False)
    if card.recall:
        recall = ", ".join(f"{share:.1%} for {side}s" for side, share in card.recall.items())
        out.print(f"recall@10   {recall}", markup=False)
        out.print(
            f"a query     {card.seconds * 1e3:,.1f} ms; exact search {card.exact_seconds * 1e3:,.1f} ms", markup=False
        )
    else:
        out.print("recall@10   exact: so few vectors need no index", markup=False)
    out.print(f"in {summary.out}", markup=False)


def _line(text: str | None) -> str:
    """Captions may hold anything; on a terminal they are one line, without control characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in text or "").split())
