"""Scores for a dataset's rows, from their embeddings; or from their images, which are then read again."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from typing import Any

from ...clipmodel.download import Progress
from ..dataset.dataset import Dataset
from ..dataset.derived import begin
from ..dataset.layout import OWN
from ..dataset.output import Output
from ..errors import InputError
from ..job.readable import Result
from ..job.score import ScoreJob
from ..running import notebook
from ..running.scatter import scatter
from ..running.stages import OnStage, counted
from .inputs import Embeddings, Images, Inputs
from .part import ScoreCounts, ScorePart
from .progress import remember, remembered
from .scorers import Scorer, scorers_of

SUMMARY = f"{OWN}/summary.json"


@dataclass(frozen=True)
class ScoreSummary(Result):
    """What `score` returns."""

    out: str
    dataset: str
    scorers: dict[str, str]  # by column or MODULE:FUNCTION: the file or module, its sha256, its layers
    columns: tuple[str, ...]
    parts: int
    parts_done_before: int
    counts: ScoreCounts
    seconds: float

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "seconds": round(self.seconds, 3)}


def score(job: ScoreJob, on_stage: OnStage = notebook.stages, on_download: Progress | None = None) -> ScoreSummary:
    """Writes a file of scores for each part of a dataset; run again to resume, or when the dataset has grown.

    UserError for a wrong request, a head of another model's embeddings, or a function that fails; PlanMismatchError
    where OUT was begun with other settings. With `pixels`, InputError for shards that are gone or have changed since
    they were embedded.
    """
    began = time.monotonic()
    job.check()
    dataset = Dataset.open(job.dataset, job.storage_options)
    dataset.model(job.alias)  # raises for an unknown alias
    if f"{job.side}s" not in dataset.settings.embeds:
        remedy = (
            "leave out --pixels, and score the texts with --for text" if job.pixels else "score the others with --for"
        )
        raise InputError(f"{dataset.url} has no embeddings of {job.side}s; {remedy}")
    inputs = _inputs(job, dataset)
    scorers = scorers_of(job, dataset, inputs, on_download)
    output = Output.at(job.out, job.storage_options).prepare()
    begin(output, "score", _settings(job, dataset, scorers), job.overwrite)
    work = ScorePart(dataset, output, inputs, scorers, frozenset(output.parts()))
    counts, fresh = remembered(output, dataset), 0
    todo = [part for part in dataset.parts if part not in counts]
    for part, (part_counts, is_new) in counted(
        scatter(work, todo, job.address) if todo else (), "scoring", "parts", len(todo), on_stage
    ):
        counts[part], fresh = part_counts, fresh + is_new
    if todo:
        remember(output, dataset, counts)
    summary = ScoreSummary(
        out=output.url,
        dataset=dataset.url,
        scorers={scorer.name: scorer.identity for scorer in scorers},
        columns=tuple(column for scorer in scorers for column in scorer.types),
        parts=len(dataset.parts),
        parts_done_before=len(dataset.parts) - fresh,
        counts=sum(counts.values(), ScoreCounts()),
        seconds=time.monotonic() - began,
    )
    output.write(SUMMARY, json.dumps(summary.as_json(), indent=2).encode())
    return summary


def _inputs(job: ScoreJob, dataset: Dataset) -> Inputs:
    model = dataset.model(job.alias)
    return Images.of(dataset, model) if job.pixels else Embeddings(f"{model.prefix}{job.side}_embedding", model.dim)


def _settings(job: ScoreJob, dataset: Dataset, scorers: tuple[Scorer, ...]) -> dict[str, Any]:
    """All that the scores depend on."""
    return {
        "dataset": dataset.url,
        "fingerprint": dataset.settings.digest,
        "model": dataset.model(job.alias).alias,
        "side": "pixels" if job.pixels else job.side,
        **{scorer.name: scorer.identity for scorer in scorers},
    }
