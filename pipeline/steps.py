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
    examples: tuple[str, ...]  # of its command
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
        (
            "clipmill ingest urls.parquet -o s3://b/shards --caption-column text",
            "clipmill ingest lists/ -o shards/ --resize-mode no --timeout 30 --retries 2",
        ),
    ),
    Step(
        "embed",
        "pipeline.running.embed",
        (),
        (
            "clipmill embed photos/ -o out/ -m ViT-B/32",
            "clipmill embed 's3://b/shards/{00000..00099}.tar' -o s3://b/out -m ViT-L-14=datacomp_xl_s13b_b90k",
        ),
    ),
    Step(
        "label",
        "pipeline.labelling.label",
        ("LabelSummary",),
        (
            "clipmill label out/ -o labels/ --classes classes.txt",
            "clipmill label out/ -o open/ --classes classes.csv --background text --background 'a person'",
        ),
    ),
    Step(
        "columns",
        "pipeline.copying.columns",
        ("ColumnsSummary",),
        (
            "clipmill columns out/ -o more/ --column license --column punsafe:float64",
            "clipmill columns s3://b/out -o s3://b/more --column license --address auto",
        ),
    ),
    Step(
        "score",
        "pipeline.scoring.score",
        ("ScoreSummary",),
        (
            "clipmill score out/ -o scores/ --head aesthetic=laion-aesthetic-l14 --head nsfw=laion-nsfw-l14",
            "clipmill score out/ -o own/ --head quality=head.safetensors --activation quality=gelu+sigmoid",
        ),
    ),
    Step(
        "filter",
        "pipeline.filtering.filter",
        ("FilterSummary",),
        (
            "clipmill filter out/ -o best/ --where 'width >= 200' --top-fraction 0.3",
            "clipmill filter out/ -o dogs/ --labels labels/ --where \"label = 'dog'\" --threshold 0.28",
        ),
    ),
    Step(
        "dedup",
        "pipeline.deduplication.dedup",
        ("DedupSummary",),
        ("clipmill dedup out/ -o unique/", "clipmill dedup out/ -o unique/ --within best/ --threshold 0.92"),
    ),
    Step(
        "reshard",
        "pipeline.resharding.reshard",
        ("ReshardSummary",),
        ("clipmill reshard unique/ -o s3://b/unique-shards/ --samples-per-shard 10000",),
    ),
    Step(
        "export",
        "pipeline.exporting.export",
        ("Export",),
        (
            "clipmill export out/ -o datacomp/ --to datacomp",
            "clipmill export out/ -o table/ --to lance --within unique/",
        ),
    ),
    Step(
        "report",
        "pipeline.reporting.report",
        ("Report",),
        ("clipmill report out/ -o report.html --labels labels/", "clipmill report out/ -o b.html --against other/"),
    ),
    Step(
        "search",
        "pipeline.searching.search",
        ("Found", "Hit"),
        (
            'clipmill search out/ "a red bicycle" -k 20 --where "width >= 512"',
            "clipmill search out/ --image photo.jpg --index index/",
        ),
        specified=False,
    ),
    Step(
        "index",
        "pipeline.searching.index",
        ("IndexSummary",),
        ("clipmill index out/ -o index/", "clipmill index out/ -o index/ --kind ivfpq --recall 0.9"),
    ),
    Step(
        "serve",
        "jobs.web.serving",
        (),
        ("clipmill serve out/", "clipmill serve out/ --labels labels/ --index index/"),
        specified=False,
    ),
    Step(
        "forget",
        "pipeline.forgetting.forget",
        ("ForgetSummary",),
        (
            "clipmill forget out/ --urls takedowns.txt",
            "clipmill forget out/ --uids withdrawn.parquet --purge --also best/ --also index/ --also best-shards/",
        ),
    ),
    Step(
        "train",
        "pipeline.training.train",
        ("TrainProgress",),
        (
            "clipmill train 'shards/*.tar' -o my.safetensors --model tiny --steps 2000",
            "clipmill train 'shards/*.tar' -o b32.safetensors --model ViT-B-32 --eval 'val/*.tar' --label label",
        ),
    ),
)
