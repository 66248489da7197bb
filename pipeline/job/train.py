"""What training is asked to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

from typing_extensions import Doc

from ..choices import Loss, TrainingPrecision
from ..errors import UserError
from .common import StorageOptions
from .flags import Flag
from .readable import Readable


@dataclass(frozen=True, repr=False)
class TrainJob(Readable):
    """What to train on what, and how."""

    inputs: Annotated[
        Sequence[str], Doc("Shards, named as for `clipmill embed`."), Flag(argument=True, metavar="SHARDS…")
    ]
    out: Annotated[str, Doc("The weights to write, a .safetensors file."), Flag(("--out", "-o"), metavar="FILE")]
    model: Annotated[str, Doc("The variant to train; `clipmill models` lists them."), Flag(("--model", "-m"))]
    steps: Annotated[int, Doc("Optimiser steps.")] = 1000
    loss: Annotated[Loss, Doc("softmax is CLIP's, over the batch; sigmoid is SigLIP's, pair by pair.")] = "softmax"
    batch_size: Annotated[int, Doc("Pairs a step, on each device.")] = 256
    learning_rate: Annotated[float, Doc("The highest, after the warm-up.")] = 1e-3
    warmup: Annotated[int, Doc("Steps of linear warm-up, before the cosine.")] = 200
    weight_decay: Annotated[float, Doc("Of matrices; gains and biases have none.")] = 0.1
    precision: Annotated[Literal["auto"] | TrainingPrecision, Doc("auto is bf16 on GPUs and fp32 on CPUs.")] = "auto"
    recompute: Annotated[bool, Doc("Keep fewer activations and compute them again: less memory.")] = False
    checkpoint_every: Annotated[int, Doc("Steps between checkpoints.")] = 500
    seed: Annotated[int, Doc("Of the weights and of the order of the samples.")] = 0
    evaluate: Annotated[
        Sequence[str],
        Doc("Shards to measure recall on at the end. Repeatable."),
        Flag(("--eval",), metavar="SHARDS"),
    ] = ()
    label: Annotated[
        str | None,
        Doc("Field of the evaluation samples' json that names the class, for zero-shot top-1."),
        Flag(default="none"),
    ] = None
    storage_options: StorageOptions = field(default_factory=dict)

    def check(self) -> None:
        """UserError for values that no training could use."""
        if not self.out.endswith(".safetensors"):
            raise UserError(f"{self.out}: the weights' file must end in .safetensors")
        for name, value, least in (
            ("--steps", self.steps, 1),
            ("--batch-size", self.batch_size, 2),
            ("--warmup", self.warmup, 0),
            ("--weight-decay", self.weight_decay, 0),
            ("--checkpoint-every", self.checkpoint_every, 1),
            ("--seed", self.seed, 0),
        ):
            if value < least:
                raise UserError(f"{name} {value:g}: must be at least {least}")
