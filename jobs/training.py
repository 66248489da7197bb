"""A training run as people see it: a bar, then what the model can do."""

from __future__ import annotations

import os
from collections.abc import Sequence

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ..clipmodel.weights import load
from ..pipeline.evaluation import Evaluation, evaluate
from ..pipeline.inputs.listing import list_shards
from ..pipeline.training import TrainJob, TrainProgress, train
from .show import err, out


def run_training(job: TrainJob, evaluation: Sequence[str], label: str | None) -> None:
    """Train, resuming where a checkpoint is; then evaluate on the shards named, if any."""
    first = os.environ.get("RANK", "0") == "0"  # under torchrun one rank speaks for all
    held_out = list_shards(evaluation, job.storage_options) if evaluation else []  # before hours are spent
    with Progress(
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("steps · loss {task.fields[loss]:.3f} · {task.fields[pairs]:,} pairs ·"),
        TimeElapsedColumn(),
        TextColumn("· left"),
        TimeRemainingColumn(),
        console=err,
        disable=not first,
    ) as bar:
        task = bar.add_task("training", total=job.trainer.steps, loss=float("nan"), pairs=0)

        def show(progress: TrainProgress) -> None:
            bar.update(task, completed=progress.step, loss=progress.loss, pairs=progress.pairs)

        path = train(job, show)
    if not first:
        return
    out.print(f"weights in {path}; use them as --model {path}", markup=False)
    if held_out:
        show_evaluation(evaluate(load(str(path)).model, held_out, label, options=job.storage_options))


def show_evaluation(found: Evaluation) -> None:
    for name, share in found.recall.items():
        out.print(f"recall {name.replace('_', ' '):<18} {share:7.1%}  of {found.pairs:,} pairs", markup=False)
    if found.zero_shot is not None:
        said = f"{found.zero_shot:7.1%}  of {found.labelled:,} images, {found.classes:,} classes"
        out.print(f"{'zero-shot top-1':<25} {said}", markup=False)
