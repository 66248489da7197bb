"""A copy of a model that only encodes, as fast as the device can. Work that changes only the last bits of the answer is
done once, on the weights, instead of on every batch.

- Batch norms are folded into the convolutions before them.
- QuickGELU, x * sigmoid(1.702 x), is SiLU(1.702 x) / 1.702: one pass in place, both factors in the linear layers.
- Patches go through a matrix product: a convolution whose stride equals its kernel is one.
- In half precision weights are cast once. The residual stream, the norms, the last block (which is read at one position
  only, so costs next to nothing) and the projections stay in float32.
- On CPUs the weights are packed as the matrix library wants them (`fused.py`).
- On GPUs the blocks may be compiled, each tower's once for all of them (`compile_blocks`).
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor, nn

from .fused import Convolution, HalfLinear, InPlaceGELU, LayerNorm, PackedLinear, ScaledLinear, has_mkl
from .model import CLIP
from .transformer import Perceptron, QuickGELU, ResidualAttentionBlock, SelfAttention, Transformer
from .vision import Bottleneck, ModifiedResNet, VisionTransformer

_QUICK = 1.702
_PACKED_MOST = 1 << 29  # bytes of an image tower; packing doubles them, and is worth less the larger the matrices are


def for_inference(model: CLIP, dtype: torch.dtype = torch.float32, images: int = 0) -> CLIP:
    """A copy with `encode_image` and `encode_text` as the model's, on its device: equal in float32 but for rounding.
    It shares with the model the tensors that it leaves as they are; the model is not changed.

    model: in float32. dtype: of the matrix products; bfloat16 and float16 keep float32 around them. images: the
    batch size that will be most frequent; on CPUs a VisionTransformer's layers are packed for it.
    """
    shared: dict[int, object] = {id(tensor): tensor for tensor in chain(model.parameters(), model.buffers())}
    copy = deepcopy(model, shared).eval()
    visual = copy.visual
    if isinstance(visual, VisionTransformer):
        rows = images if _worth_packing(visual, dtype) else 0
        patches = Patches(visual.conv1, _Layers(dtype, rows * (len(visual.positional_embedding) - 1)))
        visual.add_module("conv1", patches)  # in the convolution's place
        _prepare(visual.transformer, _Layers(dtype, rows * len(visual.positional_embedding)))
    else:
        assert isinstance(visual, ModifiedResNet)
        copy.visual = FoldedResNet(visual, dtype)
    _prepare(copy.transformer, _Layers(dtype))
    return copy


def compile_blocks(copy: CLIP, backend: str = "inductor") -> None:
    """Have torch.compile fuse what is between the matrix products of the blocks of a copy made for inference, from
    the next call on. One block is compiled for all of its tower, which takes seconds where the whole would minutes:
    images for each size of a batch, captions once for all shapes. ResNets are left as they are.

    backend: "inductor" needs Triton on GPUs and a C++ compiler; "eager" and "aot_eager" are for tests.
    """
    if isinstance(copy.visual, VisionTransformer):
        _compile(copy.visual.transformer, backend, dynamic=False)
    _compile(copy.transformer, backend, dynamic=True)


def _compile(transformer: Transformer, backend: str, dynamic: bool) -> None:
    for block in transformer.resblocks:
        if isinstance(block, _Block):
            block.compile(backend=backend, dynamic=dynamic)


def _worth_packing(visual: VisionTransformer, dtype: torch.dtype) -> bool:
    size = sum(tensor.numel() * tensor.element_size() for tensor in visual.parameters())
    on_cpu = visual.class_embedding.device.type == "cpu"
    return on_cpu and dtype == torch.float32 and has_mkl() and size <= _PACKED_MOST


@dataclass(frozen=True)
class _Layers:
    """Makes the linear layers of one transformer."""

    dtype: torch.dtype
    rows: int = 0  # of the input, where they are packed for it

    def linear(self, weight: Tensor, bias: Tensor | None, scale: float = 1.0) -> nn.Module:
        """scale * W x + bias."""
        if self.dtype != torch.float32:
            return HalfLinear(weight, bias, scale, self.dtype)
        if self.rows:
            return PackedLinear(weight, bias, scale, self.rows)
        return ScaledLinear(weight, bias, scale)

    def norm(self, norm: nn.LayerNorm) -> nn.Module:
        return norm if self.dtype == torch.float32 else LayerNorm(norm, self.dtype)


def _prepare(transformer: Transformer, layers: _Layers) -> None:
    *blocks, last = transformer.resblocks
    transformer.resblocks = nn.ModuleList((*(_Block(block, layers) for block in blocks), last))


class _Block(nn.Module):
    """A ResidualAttentionBlock, read at all positions; it overwrites its input."""

    def __init__(self, block: nn.Module, layers: _Layers) -> None:
        super().__init__()
        assert isinstance(block, ResidualAttentionBlock)
        self.ln_1, self.ln_2 = layers.norm(block.ln_1), layers.norm(block.ln_2)
        self.attn = _Attention(block.attn, layers)
        self.mlp = _perceptron(block.mlp, layers)

    def forward(self, x: Tensor, causal: bool, positions: None = None) -> Tensor:
        x += self.attn(self.ln_1(x), causal)
        x += self.mlp(self.ln_2(x))
        return x


class _Attention(SelfAttention):
    """Self-attention at all positions, with projections made by `_Layers`."""

    def __init__(self, attention: SelfAttention, layers: _Layers) -> None:
        nn.Module.__init__(self)
        self.heads = attention.heads
        self.in_proj = layers.linear(attention.in_proj_weight, attention.in_proj_bias)
        self.add_module("out_proj", layers.linear(attention.out_proj.weight, attention.out_proj.bias))

    def project(self, x: Tensor) -> Tensor:
        y: Tensor = self.in_proj(x)
        return y


def _perceptron(mlp: Perceptron, layers: _Layers) -> nn.Sequential:
    scale, activation = (_QUICK, nn.SiLU(inplace=True)) if isinstance(mlp.gelu, QuickGELU) else (1.0, InPlaceGELU())
    return nn.Sequential(
        layers.linear(mlp.c_fc.weight, mlp.c_fc.bias * scale, scale),
        activation,
        layers.linear(mlp.c_proj.weight, mlp.c_proj.bias, 1 / scale),
    )


class Patches(nn.Module):
    """The first convolution of a VisionTransformer: pixels [n, 3, size, size], best channels last in memory ->
    float32 [n, width, grid, grid], as that."""

    def __init__(self, conv: nn.Conv2d, layers: _Layers) -> None:
        super().__init__()
        self.patch = conv.kernel_size[0]
        weight = conv.weight.permute(0, 2, 3, 1).flatten(1)  # [width, patch * patch * 3]
        self.linear = layers.linear(weight.contiguous(), None)

    def forward(self, pixels: Tensor) -> Tensor:
        n, _, size, _ = pixels.shape
        grid = size // self.patch
        rows = pixels.permute(0, 2, 3, 1)[:, : grid * self.patch, : grid * self.patch]  # what the stride leaves over
        rows = rows.reshape(n, grid, self.patch, grid, self.patch * 3).transpose(2, 3)
        x = self.linear(rows.reshape(n, grid * grid, -1)).float()  # [n, patches, width]
        return x.transpose(1, 2).unflatten(2, (grid, grid))


class FoldedResNet(nn.Module):
    """A ModifiedResNet with its batch norms folded in; attention pooling in float32."""

    def __init__(self, net: ModifiedResNet, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        stem = ((net.conv1, net.bn1), (net.conv2, net.bn2), (net.conv3, net.bn3))
        self.stem = nn.Sequential(*(Convolution(conv, norm, True, dtype) for conv, norm in stem), net.avgpool)
        blocks = chain(net.layer1, net.layer2, net.layer3, net.layer4)
        self.blocks = nn.Sequential(*(_FoldedBottleneck(block, dtype) for block in blocks))
        self.attnpool = net.attnpool

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(self.dtype, memory_format=torch.channels_last)
        y: Tensor = self.attnpool(self.blocks(self.stem(x)).float())
        return y


class _FoldedBottleneck(nn.Module):
    def __init__(self, block: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        assert isinstance(block, Bottleneck)
        self.conv1 = Convolution(block.conv1, block.bn1, True, dtype)
        self.conv2 = nn.Sequential(Convolution(block.conv2, block.bn2, True, dtype), block.avgpool)
        self.conv3 = Convolution(block.conv3, block.bn3, True, dtype)
        self.downsample: nn.Module | None = None
        if block.downsample is not None:
            pool, conv, norm = block.downsample.children()
            assert isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
            self.downsample = nn.Sequential(pool, Convolution(conv, norm, False, dtype))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        y: Tensor = self.conv3(self.conv2(self.conv1(x)), shortcut)
        return y
