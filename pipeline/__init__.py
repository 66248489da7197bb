"""What happens to one shard, and how many shards are spread over a cluster.

The functions behind the commands are here by name; they are imported when asked for, since Ray and torch take seconds.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .job import EmbedJob
    from .run import embed
    from .summary import Status, Summary, status

__all__ = ["EmbedJob", "Status", "Summary", "embed", "status"]

_HOMES = {"EmbedJob": "job", "embed": "run", "Status": "summary", "Summary": "summary", "status": "summary"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
