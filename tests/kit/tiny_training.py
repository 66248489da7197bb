"""The smallest models and batches that train, and two processes that train one of them together.

The processes import this file afresh, so it stays apart from the tests and what those import.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from clipmill.clipmodel.config import CLIPConfig, TextConfig, VisionConfig
from clipmill.clipmodel.model import CLIP
from clipmill.clipmodel.train import TrainBatch, TrainConfig, Trainer
from clipmill.clipmodel.weights import random_weights
from random_models import captions

TEXT = TextConfig(32, 2, 2, vocab_size=1024, context_length=16)
VIT = CLIPConfig(32, VisionConfig(32, 64, 2, 16), TEXT)
SIGMOID = replace(VIT, sigmoid=True)
RESNET = CLIPConfig(32, VisionConfig(32, 8, (1, 1, 1, 1)), TEXT)
SEEDS = (0, 1)  # of the two batches that the two processes share
# no clipping: it would hide gradients of a wrong size, and Adam does so too
TOGETHER = TrainConfig(steps=10, learning_rate=1e-3, warmup_steps=2, gradient_clip=1e9)


def batch(count: int = 8, seed: int = 0) -> TrainBatch:
    """Pairs that can be told apart: coarse noise, and captions of random words."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randint(0, 256, (count, 4, 4, 3), dtype=torch.uint8, generator=generator)
    pixels = coarse.repeat_interleave(8, 1).repeat_interleave(8, 2)
    return TrainBatch(pixels, captions(VIT, lengths=tuple(3 + i % 8 for i in range(count)), seed=seed))


def mosaics(count: int, seed: int) -> TrainBatch:
    """Pairs to generalise from: four squares of eight colours under noise, and a caption that names them."""
    generator = torch.Generator().manual_seed(seed)
    colours = torch.randint(0, 8, (count, 4), generator=generator)
    shades = torch.tensor([[40 if colour >> channel & 1 else 215 for channel in range(3)] for colour in range(8)])
    pixels = shades[colours].view(count, 2, 2, 3).repeat_interleave(16, 1).repeat_interleave(16, 2)
    noise = torch.randint(-40, 41, pixels.shape, generator=generator)
    words = 1 + 8 * torch.arange(4) + colours
    begin, end = (torch.full((count, 1), TEXT.vocab_size - n) for n in (2, 1))
    return TrainBatch((pixels + noise).to(torch.uint8), torch.cat([begin, words, end], dim=1))


def part(whole: TrainBatch, rank: int, ranks: int) -> TrainBatch:
    return TrainBatch(whole.pixels.chunk(ranks)[rank], whole.tokens.chunk(ranks)[rank])


def train_one_step(trainer: Trainer, data: TrainBatch) -> dict[str, Any]:
    """What the step left: its loss, the gradients it used and the parameters after it."""
    loss = trainer.step(data)
    parameters = dict(trainer.clip.named_parameters())
    return {
        "loss": loss,
        "gradients": {name: p.grad.clone() for name, p in parameters.items() if p.grad is not None},
        "parameters": {name: p.detach().clone() for name, p in parameters.items()},
    }


def model(config: CLIPConfig, seed: int = 0) -> CLIP:
    return random_weights(config, seed)


def one_of_two(rank: int, folder: str, runs: Sequence[tuple[CLIPConfig, TrainConfig]]) -> None:
    """A process's whole life: meet the other, step on its half of each batch, write down what came of it."""
    torch.set_num_threads(1)
    names = {name for _, name in socket.if_nameindex()}
    for loopback in ("lo", "lo0"):  # otherwise it looks its own host's name up, which not every machine can
        if loopback in names:
            os.environ["GLOO_SOCKET_IFNAME"] = loopback
    meeting = f"file://{Path(folder).resolve()}/meeting"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2, timeout=timedelta(seconds=120))
    try:
        results = []
        for architecture, config in runs:
            trainer = Trainer(model(architecture), config)
            results.append([train_one_step(trainer, part(batch(seed=seed), rank, 2)) for seed in SEEDS])
        torch.save(results, Path(folder) / f"rank{rank}.pt")
    finally:
        dist.destroy_process_group()
