"""The steps that clipmill knows, a row each. The public names of `clipmill.pipeline` and `clipmill.pipeline.job`, the
kinds of job specifications and the commands are made from this table."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any


@dataclass(frozen=True)
class Step:
    """A step. Its job is `pipeline/job/NAME.py`, its command `jobs/cli/NAME.py`."""

    name: str  # of its function, its command and its kind of specification
    home: str  # the module of its function, below `clipmill`
    results: tuple[str, ...]  # public types of that module
    example: str  # of its command
    specified: bool = True  # whether a job specification can name it

    @property
    def job_name(self) -> str:
        return f"{self.name.title()}Job"

    @property
    def job(self) -> type[Any]:
        """Its dataclass: what the step can be asked to do."""
        job: type[Any] = getattr(import_module(f".job.{self.name}", __package__), self.job_name)
        return job


STEPS = (  # in the order in which people use them
    Step(
        "ingest",
        "jobs.ingesting.ingest",
        ("IngestSummary",),
        "clipmill ingest urls.parquet -o s3://b/shards --caption-column text",
    ),
    Step(
        "embed",
        "pipeline.running.embed",
        (),
        "clipmill embed 's3://b/shards/{00000..00099}.tar' -o s3://b/out -m ViT-B/32",
    ),
    Step(
        "label",
        "pipeline.labelling.label",
        ("LabelSummary",),
        "clipmill label out/ -o labels/ --classes classes.txt --templates photo",
    ),
    Step(
        "filter",
        "pipeline.filtering.filter",
        ("FilterSummary",),
        "clipmill filter out/ -o best/ --where 'width >= 200' --top-fraction 0.3",
    ),
    Step(
        "dedup",
        "pipeline.deduplication.dedup",
        ("DedupSummary",),
        "clipmill dedup out/ -o unique/ --threshold 0.95",
    ),
    Step(
        "reshard",
        "pipeline.resharding.reshard",
        ("ReshardSummary",),
        "clipmill reshard unique/ -o s3://b/unique-shards/ --samples-per-shard 10000",
    ),
    Step(
        "export",
        "pipeline.exporting.export",
        ("Export",),
        "clipmill export out/ -o datacomp/ --to datacomp",
    ),
    Step(
        "report",
        "pipeline.reporting.report",
        ("Report",),
        "clipmill report out/ -o report.html --labels labels/",
    ),
    Step(
        "search",
        "pipeline.searching.search",
        ("Found", "Hit"),
        'clipmill search out/ "a red bicycle" -k 20 --where "width >= 512"',
        specified=False,
    ),
    Step(
        "index",
        "pipeline.searching.index",
        ("IndexSummary",),
        "clipmill index out/ -o index/ --kind ivf",
    ),
    Step(
        "serve",
        "jobs.web.serving",
        (),
        "clipmill serve out/ --labels labels/ --index index/",
        specified=False,
    ),
    Step(
        "train",
        "pipeline.training.train",
        ("TrainProgress",),
        "clipmill train 'shards/*.tar' -o my.safetensors --model tiny --steps 2000",
    ),
)
