"""The trainer: AdamW on the contrastive objective, warm-up and cosine, mixed precision, checkpoints.

Batches come from outside; nothing here knows of shards or files (paper, section 2.5 and table 17).
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.parallel import DistributedDataParallel

from .config import TrainingPrecision
from .model import CLIP
from .objective import MAX_LOGIT_SCALE, ContrastiveObjective
from .vision import VisionTransformer


@dataclass(frozen=True)
class TrainConfig:
    steps: int
    learning_rate: float = 1e-3
    warmup_steps: int = 200
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.98)
    gradient_clip: float = 1.0
    precision: TrainingPrecision = "fp32"
    recompute: bool = False  # gradient checkpoints: less memory, about a third more time


@dataclass(frozen=True)
class TrainBatch:
    pixels: Tensor  # uint8 [n, size, size, 3]
    tokens: Tensor  # int64 [n, length], zero-padded


def learning_rate(step: int, config: TrainConfig) -> float:
    """Linear warm-up, then half a cosine that reaches zero one step after the last."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    done = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


class Trainer:
    """One model being trained; wraps itself in DistributedDataParallel where torch.distributed is running."""

    def __init__(self, clip: CLIP, config: TrainConfig, device: torch.device | str = "cpu") -> None:
        self.clip, self.config, self.device = clip.to(device).train(), config, torch.device(device)
        clip.transformer.checkpointing = config.recompute
        if isinstance(clip.visual, VisionTransformer):
            clip.visual.transformer.checkpointing = config.recompute
        self.objective: nn.Module = ContrastiveObjective(clip)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            self.objective = DistributedDataParallel(self.objective)
        self.optimizer = torch.optim.AdamW(_parameter_groups(clip, config.weight_decay), betas=config.betas, eps=1e-6)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=config.precision == "fp16")
        self.step_number = 0

    def step(self, batch: TrainBatch) -> float:
        """One optimiser step; returns the loss before it (of this rank's rows against all ranks')."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.step_number, self.config)
        dtype = torch.float16 if self.config.precision == "fp16" else torch.bfloat16
        pixels, tokens = (t.to(self.device, non_blocking=True) for t in (batch.pixels, batch.tokens))
        with self._attention():
            with torch.autocast(self.device.type, dtype, enabled=self.config.precision != "fp32"):
                loss = self.objective(pixels, tokens)
            self.optimizer.zero_grad(set_to_none=True)
            self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.clip.parameters(), self.config.gradient_clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        with torch.no_grad():
            self.clip.logit_scale.clamp_(0, MAX_LOGIT_SCALE)
        self.step_number += 1
        return float(loss.detach())

    def _attention(self) -> AbstractContextManager[None]:
        """On CPUs torch's fused attention takes several times as long backwards as plain products do, at the lengths
        of captions (measured, torch does not document it)."""
        return sdpa_kernel(SDPBackend.MATH) if self.device.type == "cpu" else nullcontext()

    def state_dict(self) -> dict[str, Any]:
        """Everything a resumed run needs; tensors and numbers only, so that it loads without unpickling code."""
        return {
            "step": self.step_number,
            "model": self.clip.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step_number = state["step"]
        self.clip.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])


def _parameter_groups(clip: CLIP, weight_decay: float) -> list[dict[str, Any]]:
    """Decay matrices and kernels; not gains, biases, nor the temperature."""
    matrices = [p for p in clip.parameters() if p.ndim >= 2]
    others = [p for p in clip.parameters() if p.ndim < 2]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
