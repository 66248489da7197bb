"""Which linear layer and which norm encode: by precision, and on CPUs by the matrix library."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from .float8 import Float8Linear
from .fused import HalfLinear, LayerNorm, OneDNNLinear, PackedLinear, ScaledLinear, has_mkl, has_mkldnn, prefers_onednn

Library = Literal["onednn", "mkl", "torch"]


def _library() -> Library:
    """Whose float32 products are the fastest here."""
    if has_mkldnn(torch.float32) and prefers_onednn():
        return "onednn"
    return "mkl" if has_mkl() else "torch"


@dataclass(frozen=True)
class Layers:
    """Makes the layers of one block."""

    dtype: torch.dtype
    library: Library  # of float32 products
    rows: int = 0  # of the input, where they are packed for it
    float8: bool = False

    @classmethod
    def of(cls, model: nn.Module, dtype: torch.dtype) -> Layers:
        """Those for a model where it is."""
        on_cpu = next(model.parameters()).device.type == "cpu"
        return cls(dtype, _library() if on_cpu and dtype == torch.float32 else "torch")

    def linear(
        self, weight: Tensor, bias: Tensor | None, scale: float = 1.0, activation: nn.Module | None = None
    ) -> nn.Module:
        """scale * W x + bias; then the activation, where `fuses` is true."""
        if self.float8:
            return Float8Linear(weight, bias, scale)
        if self.dtype != torch.float32:
            return HalfLinear(weight, bias, scale, self.dtype, activation)
        if self.library == "onednn":
            return OneDNNLinear(weight, bias, scale, activation, packed=self.rows > 0)
        if self.library == "mkl" and self.rows:
            return PackedLinear(weight, bias, scale, self.rows)
        return ScaledLinear(weight, bias, scale)

    @property
    def fuses(self) -> bool:
        """Whether a layer has the activation behind it in itself."""
        return not self.float8 and (self.dtype != torch.float32 or self.library == "onednn")

    def norm(self, norm: nn.LayerNorm) -> nn.Module:
        # what is rounded to 8 bits is not rounded to 16 before
        return norm if self.dtype == torch.float32 else LayerNorm(norm, torch.float32 if self.float8 else self.dtype)
