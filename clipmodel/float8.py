"""Matrix products of 8-bit floats, e4m3: twice as fast as bfloat16's on GPUs of NVIDIA's Hopper generation and later.

Weights have a scale for each output channel, inputs one for each row, computed as they come (Micikevicius et al. 2022,
arXiv 2209.05433, have the format). Three bits of mantissa round each number by 3 % at most.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .errors import ModelError
from .flops import GPU_PEAKS

_TYPE = torch.float8_e4m3fn
_LARGEST = torch.finfo(_TYPE).max  # 448
_LEAST = 1e-12  # of a row's largest number, where all are zero
_CAPABILITY = (9, 0)  # of CUDA devices: Hopper
_NAMES = ("H100", "H200", "H800", "H20", "GH200", "B100", "B200", "B300")  # GPUs that have it, by a part of their names
NEEDS = "needs an NVIDIA GPU of the Hopper generation or later (H100, H200, B200)"


def has_float8(gpu: str) -> bool | None:
    """Whether a GPU of that name multiplies such numbers; None for names that are not known here."""
    if any(name in gpu for name in _NAMES):
        return True
    return False if any(name in gpu for name in GPU_PEAKS) else None


def check_float8(device: str) -> None:
    """ModelError where torch's device has no such products."""
    if not device.startswith("cuda"):
        raise ModelError(f"--precision fp8 {NEEDS}; use fp32 or bf16 on CPUs")
    if torch.version.hip or torch.cuda.get_device_capability(device) < _CAPABILITY:
        raise ModelError(f"--precision fp8 {NEEDS}; use bf16 on the {torch.cuda.get_device_name(device)} here")


class Float8Linear(nn.Module):
    """scale * W x + bias, with both factors of the product in e4m3 and the result in bfloat16. On CPUs the same is
    computed in float32: slow, and equal but for the order of sums."""

    def __init__(self, weight: Tensor, bias: Tensor | None, scale: float = 1.0) -> None:
        super().__init__()
        self.weight, self.scales = quantised(weight.detach() * scale)  # [outputs, inputs], [outputs, 1]
        self.bias = None if bias is None else bias.detach().to(torch.bfloat16)

    def forward(self, x: Tensor) -> Tensor:
        """float32 or bfloat16 [..., inputs] -> bfloat16 [..., outputs]. torch.compile makes one pass of the rounding
        here and of the norm or activation before it."""
        rows, scales = quantised(x.flatten(0, -2))
        return self._product(rows, scales).unflatten(0, x.shape[:-1])

    def _product(self, rows: Tensor, scales: Tensor) -> Tensor:
        if rows.device.type == "cpu":
            y = (rows.float() @ self.weight.float().t()) * scales * self.scales.t()
            return (y if self.bias is None else y + self.bias).to(torch.bfloat16)
        return torch._scaled_mm(
            rows,
            self.weight.t(),
            scale_a=scales,
            scale_b=self.scales.t(),
            bias=self.bias,
            out_dtype=torch.bfloat16,
            use_fast_accum=True,
        )


def quantised(rows: Tensor) -> tuple[Tensor, Tensor]:
    """[n, width] -> e4m3 [n, width] and float32 scales [n, 1], whose product is the input but for rounding."""
    rows = rows.float()
    scales = rows.abs().amax(dim=-1, keepdim=True).clamp(min=_LEAST) / _LARGEST
    return (rows / scales).to(_TYPE), scales
