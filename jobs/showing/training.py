"""The progress of a training run."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ...pipeline.training.train import OnProgress, TrainProgress
from .console import err


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
