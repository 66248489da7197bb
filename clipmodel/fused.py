"""Layers that only encode: a linear layer or convolution with its weights laid out for one device and precision, and
what follows it computed in the same pass. `inference.py` puts them into a copy of a model.

Those that call `torch.ops.mkl` and `torch.ops.mkldnn` use what torch's own compiler uses on CPUs: Intel's libraries
with weights packed in advance. They are called only where this build of torch has them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .cpu import cpuinfo, is_amd_with_avx512


def has_mkl() -> bool:
    return torch.backends.mkl.is_available() and hasattr(torch.ops.mkl, "_mkl_linear")


def prefers_onednn() -> bool:
    """Whether oneDNN's float32 products are faster than MKL's on this machine's processor.

    MKL leaves AVX-512 alone on AMD's processors, and oneDNN does not: on Zen 4 oneDNN's products are 13 % faster. On
    Zen 3, which has AVX2 alone, they are 17 % slower. On Intel's processors MKL comes close to the peak, and oneDNN was
    not measured.
    """
    return is_amd_with_avx512(cpuinfo())


def has_mkldnn(dtype: torch.dtype) -> bool:
    """Whether oneDNN computes convolutions and linear layers in this precision."""
    if not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_convolution_pointwise")):
        return False
    return dtype == torch.float32 or (dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported())


PostOp = tuple[str, str]  # oneDNN's name of an activation, and of its algorithm
NO_POST_OP: PostOp = ("none", "")


def post_op(activation: nn.Module | None) -> PostOp:
    if activation is None:
        return NO_POST_OP
    return ("gelu", activation.approximate) if isinstance(activation, InPlaceGELU) else ("swish", "")


def pointwise(x: Tensor, weight: Tensor, bias: Tensor | None, post: PostOp = NO_POST_OP) -> Tensor:
    """W x + bias and what follows it, by oneDNN."""
    name, algorithm = post
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, name, [], algorithm)
    return y


class ScaledLinear(nn.Module):
    """scale * W x + bias. W is shared with its owner: scaling inside the matrix product costs nothing."""

    def __init__(self, weight: Tensor, bias: Tensor | None, scale: float = 1.0) -> None:
        super().__init__()
        self.weight, self.bias, self.scale = weight.detach(), None if bias is None else bias.detach(), scale

    def forward(self, x: Tensor) -> Tensor:
        if self.scale == 1.0:
            return F.linear(x, self.weight, self.bias)
        assert self.bias is not None
        flat = torch.addmm(self.bias, x.flatten(0, -2), self.weight.t(), alpha=self.scale)
        return flat.view(*x.shape[:-1], -1)


class PackedLinear(ScaledLinear):
    """The same in float32, packed for inputs of exactly `rows` rows; other inputs use the unpacked weights.

    Packing costs a twentieth of the product at a few thousand rows and a fifth at a few hundred, so it is done once.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, scale: float, rows: int) -> None:
        super().__init__(weight, bias, scale)
        self.rows = rows
        self.packed = torch.ops.mkl._mkl_reorder_linear_weight((self.weight * scale).contiguous(), rows)

    def forward(self, x: Tensor) -> Tensor:
        if x.numel() != self.rows * x.shape[-1]:
            return super().forward(x)
        y: Tensor = torch.ops.mkl._mkl_linear(x, self.packed, self.weight, self.bias, self.rows)
        return y


class OneDNNLinear(ScaledLinear):
    """The same in float32 by oneDNN, and the activation behind it in the same pass.

    packed: the weights are laid out in advance, in a copy of their own; else for each product anew, which costs a
    thirtieth of it at a few hundred rows.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        scale: float = 1.0,
        activation: nn.Module | None = None,
        packed: bool = False,
    ) -> None:
        super().__init__(weight, bias, scale)
        self.post = post_op(activation)
        if packed:
            self.weight, self.scale = torch.ops.mkldnn._reorder_linear_weight((self.weight * scale).contiguous()), 1.0

    def forward(self, x: Tensor) -> Tensor:
        if self.scale == 1.0 or self.weight.shape[0] > self.weight.shape[1]:
            return pointwise(x if self.scale == 1.0 else x * self.scale, self.weight, self.bias, self.post)
        assert self.bias is not None and self.post == NO_POST_OP
        return torch.add(self.bias, pointwise(x, self.weight, None), alpha=self.scale)  # on the narrower side


class HalfLinear(nn.Module):
    """The same with weights in `dtype`, a half precision; inputs are cast to it."""

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        scale: float,
        dtype: torch.dtype,
        activation: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.weight = (weight.detach() * scale).to(dtype)
        self.bias = None if bias is None else bias.detach().to(dtype)
        self.activation, self.post = activation, post_op(activation)
        self.packed = weight.device.type == "cpu" and has_mkldnn(dtype)
        if self.packed:
            self.weight = torch.ops.mkldnn._reorder_linear_weight(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(self.weight.dtype)
        if self.packed:
            return pointwise(x, self.weight, self.bias, self.post)
        y = F.linear(x, self.weight, self.bias)
        return y if self.activation is None else self.activation(y)


class LayerNorm(nn.Module):
    """A layer norm in float32 whose output is cast for the half-precision layer that reads it."""

    def __init__(self, norm: nn.LayerNorm, dtype: torch.dtype) -> None:
        super().__init__()
        self.norm, self.dtype = norm, dtype

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(x.float())
        return y.to(self.dtype)


class InPlaceGELU(nn.Module):
    def __init__(self, approximate: str) -> None:
        super().__init__()
        self.approximate = approximate

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = torch.ops.aten.gelu_(x, approximate=self.approximate)
        return y


class Convolution(nn.Module):
    """A convolution with the batch norm behind it folded in (its running statistics are an affine map), then
    optionally a sum and a ReLU."""

    def __init__(self, conv: nn.Conv2d, norm: nn.BatchNorm2d, relu: bool, dtype: torch.dtype) -> None:
        super().__init__()
        assert norm.running_mean is not None and norm.running_var is not None
        gain = norm.weight.detach() / (norm.running_var + norm.eps).sqrt()
        weight = (conv.weight.detach() * gain.view(-1, 1, 1, 1)).to(dtype)
        self.weight = weight.contiguous(memory_format=torch.channels_last)
        self.bias = (norm.bias.detach() - norm.running_mean * gain).to(dtype)
        self.stride, self.padding, self.relu = list(conv.stride), [int(p) for p in conv.padding], relu
        self.packed = weight.device.type == "cpu" and has_mkldnn(dtype)
        if self.packed:
            self.weight = torch.ops.mkldnn._reorder_convolution_weight(self.weight, self.padding, self.stride)

    def forward(self, x: Tensor, added: Tensor | None = None) -> Tensor:
        """[n, channels, height, width], channels last -> the same. `added` is overwritten, and the sum always ends in
        a ReLU."""
        if self.packed:
            return self._packed(x, added)
        y = F.conv2d(x, self.weight, self.bias, self.stride, self.padding)
        if added is not None:
            y += added
        return y.relu_() if self.relu or added is not None else y

    def _packed(self, x: Tensor, added: Tensor | None) -> Tensor:
        options = (self.weight, self.bias, self.padding, self.stride, [1, 1], 1)  # not dilated, in one group
        y: Tensor
        if added is None:
            y = torch.ops.mkldnn._convolution_pointwise(x, *options, "relu" if self.relu else "none", [], "")
        else:
            y = torch.ops.mkldnn._convolution_pointwise_.binary(added, x, *options, "add", 1.0, "relu", [], "")
        return y
