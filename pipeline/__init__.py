"""What happens to one shard, and how many shards are spread over a cluster.

The functions behind the commands are here by name; they are imported when asked for, since Ray and torch take seconds.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .deduplication.dedup import DedupSummary, dedup
    from .exporting.export import Export, export
    from .filtering.filter import FilterSummary, filter
    from .job import (
        DedupJob,
        EmbedJob,
        ExportJob,
        FilterJob,
        IndexJob,
        LabelJob,
        ReportJob,
        ReshardJob,
        SearchJob,
        ServeJob,
    )
    from .labelling.label import LabelSummary, label
    from .ray_data import Encoder
    from .reporting.report import Report, report
    from .resharding.reshard import ReshardSummary, reshard
    from .run import embed
    from .searching.index import IndexSummary, index
    from .searching.search import Found, Hit, search
    from .summary import Status, Summary, status

__all__ = [
    "DedupJob",
    "DedupSummary",
    "EmbedJob",
    "Encoder",
    "Export",
    "ExportJob",
    "FilterJob",
    "FilterSummary",
    "Found",
    "Hit",
    "IndexJob",
    "IndexSummary",
    "LabelJob",
    "LabelSummary",
    "Report",
    "ReportJob",
    "ReshardJob",
    "ReshardSummary",
    "SearchJob",
    "ServeJob",
    "Status",
    "Summary",
    "dedup",
    "embed",
    "export",
    "filter",
    "index",
    "label",
    "report",
    "reshard",
    "search",
    "status",
]

# No module is called as a function in it: importing one makes it the package's attribute of that name.
_HOMES = {
    "DedupJob": "job",
    "DedupSummary": "deduplication.dedup",
    "EmbedJob": "job",
    "Encoder": "ray_data",
    "FilterJob": "job",
    "FilterSummary": "filtering.filter",
    "Export": "exporting.export",
    "ExportJob": "job",
    "Found": "searching.search",
    "Hit": "searching.search",
    "IndexJob": "job",
    "IndexSummary": "searching.index",
    "LabelJob": "job",
    "LabelSummary": "labelling.label",
    "Report": "reporting.report",
    "ReportJob": "job",
    "ReshardJob": "job",
    "ReshardSummary": "resharding.reshard",
    "SearchJob": "job",
    "ServeJob": "job",
    "Status": "summary",
    "Summary": "summary",
    "dedup": "deduplication.dedup",
    "embed": "run",
    "filter": "filtering.filter",
    "export": "exporting.export",
    "index": "searching.index",
    "label": "labelling.label",
    "report": "reporting.report",
    "reshard": "resharding.reshard",
    "search": "searching.search",
    "status": "summary",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
