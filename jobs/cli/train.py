"""`clipmill train`"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from ...pipeline.job.train import TrainJob
from ..showing.console import out
from .options import Json

if TYPE_CHECKING:
    from ...pipeline.training.evaluation import Evaluation
    from ...pipeline.training.train import Trained


def train(job: TrainJob, json_: Json = False) -> None:
    """Train a CLIP on image-text shards. Run again to resume; under `torchrun`, on several devices."""
    from ...pipeline import train as run
    from ..showing.training import is_first_rank, training_bar

    with training_bar(job.steps) as bar:
        trained = run(job, bar)
    if is_first_rank():
        print(json.dumps(asdict(trained), default=str)) if json_ else _show(trained)


def _show(trained: Trained) -> None:
    out.print(f"weights in {trained.weights}; use them as --model {trained.weights}")
    if trained.evaluation is not None:
        _show_evaluation(trained.evaluation)


def _show_evaluation(evaluation: Evaluation) -> None:
    for name, share in evaluation.recall.items():
        out.print(f"recall {name.replace('_', ' '):<18} {share:7.1%}  of {evaluation.pairs:,} pairs")
    if evaluation.zero_shot is not None:
        of = f"of {evaluation.labelled:,} images, {evaluation.classes:,} classes"
        out.print(f"{'zero-shot top-1':<25} {evaluation.zero_shot:7.1%}  {of}")
