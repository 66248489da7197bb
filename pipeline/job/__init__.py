"""What each step can be asked to do: one dataclass a step, from which its command line options and its part of a job
specification are made. Nothing heavy is imported here, so that help comes at once."""

from .dedup import DedupJob
from .embed import EmbedJob
from .export import ExportJob
from .filter import FilterJob
from .flags import Flag
from .index import IndexJob
from .ingest import IngestJob
from .label import LabelJob
from .report import ReportJob
from .reshard import ReshardJob
from .search import SearchJob
from .serve import ServeJob

__all__ = [
    "DedupJob",
    "EmbedJob",
    "ExportJob",
    "FilterJob",
    "Flag",
    "IndexJob",
    "IngestJob",
    "LabelJob",
    "ReportJob",
    "ReshardJob",
    "SearchJob",
    "ServeJob",
]
