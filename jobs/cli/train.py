"""`clipmill train`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import Debug, PrecisionChoice, StorageOptions, storage_options


def train(
    inputs: Annotated[list[str], typer.Argument(metavar="SHARDS…", help="Shards, named as for `clipmill embed`.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The weights to write, a .safetensors file.")],
    model: Annotated[str, typer.Option("--model", "-m", help="The variant to train; `clipmill models` lists them.")],
    steps: Annotated[int, typer.Option(help="Optimiser steps.", min=1)] = 1000,
    batch_size: Annotated[int, typer.Option(help="Pairs a step, on each device.", min=2)] = 256,
    learning_rate: Annotated[float, typer.Option(help="The highest, after the warm-up.")] = 1e-3,
    warmup: Annotated[int, typer.Option(help="Steps of linear warm-up, before the cosine.", min=0)] = 200,
    weight_decay: Annotated[float, typer.Option(help="Of matrices; gains and biases have none.", min=0)] = 0.1,
    precision: Annotated[
        PrecisionChoice, typer.Option(help="auto is bf16 on GPUs and fp32 on CPUs.")
    ] = PrecisionChoice.auto,
    recompute: Annotated[
        bool, typer.Option(help="Keep fewer activations and compute them again: less memory.")
    ] = False,
    checkpoint_every: Annotated[int, typer.Option(help="Steps between checkpoints.", min=1)] = 500,
    seed: Annotated[int, typer.Option(help="Of the weights and of the order of the samples.", min=0)] = 0,
    evaluate: Annotated[
        list[str] | None,
        typer.Option("--eval", metavar="SHARDS", help="Shards to measure recall on at the end. Repeatable."),
    ] = None,
    label: Annotated[
        str | None,
        typer.Option(help="Field of the evaluation samples' json that names the class, for zero-shot top-1."),
    ] = None,
    storage_option: StorageOptions = None,
    debug: Debug = False,
) -> None:
    """Train a CLIP on image-text shards. Run again to resume; under `torchrun`, on several devices."""
    from ...clipmodel.train import TrainConfig
    from ...pipeline.training import TrainJob, auto_precision
    from ..training import run_training

    config = TrainConfig(
        steps=steps,
        learning_rate=learning_rate,
        warmup_steps=warmup,
        weight_decay=weight_decay,
        precision=auto_precision() if precision is PrecisionChoice.auto else precision.value,
        recompute=recompute,
    )
    options = storage_options(storage_option)
    job = TrainJob.of(
        inputs,
        out,
        model,
        config,
        batch_size=batch_size,
        seed=seed,
        checkpoint_every=checkpoint_every,
        storage_options=options,
    )
    run_training(job, evaluate or [], label)
