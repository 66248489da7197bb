"""`clipmill search`"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ...pipeline.job.search import SearchJob
from ..showing.console import out
from .options import Json

if TYPE_CHECKING:
    from ...pipeline import Found


def search(job: SearchJob, json_: Json = False) -> None:
    """Find the pairs of a dataset that fit a text, an image or another pair best."""
    from ...pipeline import search as run
    from ..showing.progress import DownloadProgress

    with DownloadProgress() as download, DownloadProgress("copying embeddings") as copying:
        result = run(job, copying, download)
    print(json.dumps(result.as_json())) if json_ else _show(result)


def _show(result: Found) -> None:
    """A line for each hit: rank, score, key, caption, url."""
    if not result.hits:
        out.print(
            f"nothing found: no row that is searched has an embedding of its {result.side}"
            if not result.among
            else f"nothing found: none of {result.among:,} rows reaches the threshold"
        )
    width = max((len(hit.row["key"]) for hit in result.hits), default=0)
    for hit in result.hits:
        rest = [_one_line(hit.row.get(name)) for name in ("caption", "url")]
        words = "  ".join(
            [f"{hit.rank:>3}  {hit.score:.4f}  {_one_line(hit.row['key']):<{width}}", *filter(None, rest)]
        )
        out.print(words.rstrip())


def _one_line(text: str | None) -> str:
    """Captions may hold anything; on a terminal they are one line, without control characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in text or "").split())
