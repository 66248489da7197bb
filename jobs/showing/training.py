"""A training run as people see it: a bar, then what the model can do."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ...pipeline.training.evaluation import Evaluation
from ...pipeline.training.train import OnProgress, Trained, TrainProgress
from .show import err, out


def is_first_rank() -> bool:
    """Whether this process speaks for all: under torchrun the one of rank 0 does."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def training_bar(steps: int) -> Generator[OnProgress, None, None]:
    with Progress(
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("steps · loss {task.fields[loss]:.3f} · {task.fields[pairs]:,} pairs ·"),
        TimeElapsedColumn(),
        TextColumn("· left"),
        TimeRemainingColumn(),
        console=err,
        disable=not is_first_rank(),
    ) as bar:
        task = bar.add_task("training", total=steps, loss=float("nan"), pairs=0)

        def show(progress: TrainProgress) -> None:
            bar.update(task, completed=progress.step, loss=progress.loss, pairs=progress.pairs)

        yield show


def show_trained(trained: Trained) -> None:
    out.print(f"weights in {trained.weights}; use them as --model {trained.weights}", markup=False)
    if trained.evaluation is not None:
        show_evaluation(trained.evaluation)


def show_evaluation(evaluation: Evaluation) -> None:
    for name, share in evaluation.recall.items():
        out.print(f"recall {name.replace('_', ' '):<18} {share:7.1%}  of {evaluation.pairs:,} pairs", markup=False)
    if evaluation.zero_shot is not None:
        of = f"of {evaluation.labelled:,} images, {evaluation.classes:,} classes"
        out.print(f"{'zero-shot top-1':<25} {evaluation.zero_shot:7.1%}  {of}", markup=False)
