"""A copy of a model that only encodes, as fast as the device can. Work that changes only the last bits of the answer is
done once, on the weights, instead of on every batch.

- Batch norms are folded into the convolutions before them.
- QuickGELU, x * sigmoid(1.702 x), is SiLU(1.702 x) / 1.702: one pass in place, both factors in the linear layers.
- Patches go through a matrix product: a convolution whose stride equals its kernel is one.
- In half precision weights are cast once. The norms, the last block (which is read at one position only, so costs next
  to nothing) and the projections stay in float32; the residual stream does in all but `pure_bf16` and `fp8`.
- In `fp8` the products of the image tower's blocks, without its first and last, are of 8-bit floats (`float8.py`).
  Captions, which are a small part of the work, are encoded as in `bf16`.
- On CPUs products are those of the faster matrix library, which has the weights packed as it wants them (`fused.py`).
- On GPUs the blocks may be compiled, each tower's once for all of them (`compile_blocks`). A block leaves its last sum
  to the next one, so that it is in one pass with the norm that follows.
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, cast

import torch
from torch import Tensor, nn

from .config import CLIPConfig, Precision
from .errors import ModelError
from .fused import Convolution, InPlaceGELU
from .layers import Layers
from .model import CLIP
from .transformer import Perceptron, QuickGELU, ResidualAttentionBlock, SelfAttention, Transformer
from .vision import Bottleneck, ModifiedResNet, VisionTransformer

_QUICK = 1.702
_VARIANTS = 64  # of compiled blocks in a process: for each tower, size of a batch, and kind of layers
_PACKED_MOST = 1 << 29  # bytes of a tower; packing doubles them, and is worth less the larger the matrices are


@dataclass(frozen=True)
class Arithmetic:
    """What a precision means."""

    products: torch.dtype  # of matrices
    stream: torch.dtype = torch.float32  # the residual stream, between the blocks
    float8: bool = False  # products of the image tower's inner blocks


ARITHMETIC: dict[Precision, Arithmetic] = {
    "fp32": Arithmetic(torch.float32),
    "bf16": Arithmetic(torch.bfloat16),
    "pure_bf16": Arithmetic(torch.bfloat16, torch.bfloat16),
    "fp16": Arithmetic(torch.float16),
    "fp8": Arithmetic(torch.bfloat16, torch.bfloat16, float8=True),
}


def for_inference(model: CLIP, precision: Precision = "fp32", images: int = 0, texts: int = 0) -> CLIP:
    """A copy with `encode_image` and `encode_text` as the model's, on its device: equal in float32 but for rounding.
    It shares with the model the tensors that it leaves as they are; the model is not changed.

    model: in float32. images: the batch size that will be most frequent; on CPUs a VisionTransformer's layers are
    packed for it. texts: that of captions, where all have the context's length. ModelError for a ResNet in fp8.
    """
    arithmetic = ARITHMETIC[precision]
    shared: dict[int, object] = {id(tensor): tensor for tensor in chain(model.parameters(), model.buffers())}
    copy = deepcopy(model, shared).eval()
    visual = copy.visual
    layers = Layers.of(model, arithmetic.products)
    if isinstance(visual, VisionTransformer):
        positions = len(visual.positional_embedding)
        patches = positions - (visual.head is None)
        packed_for = images if _small(visual) else 0
        first = replace(layers, rows=packed_for * patches)
        visual.add_module("conv1", Patches(visual.conv1, first))  # in the convolution's place
        inner = replace(layers, rows=packed_for * positions)
        _prepare(visual.transformer, arithmetic, inner, everywhere=visual.head is not None)
    else:
        assert isinstance(visual, ModifiedResNet)
        check_precision(precision, model.config)
        copy.visual = FoldedResNet(visual, arithmetic.products)
    packed = replace(layers, rows=texts * model.config.text.context_length if _small(copy.transformer) else 0)
    _prepare(copy.transformer, replace(arithmetic, float8=False, stream=_text_stream(arithmetic)), packed)
    return copy


def check_precision(precision: Precision, config: CLIPConfig) -> None:
    """ModelError where a model has nothing of what that precision is about."""
    if config.vision.is_resnet and (precision == "fp8" or ARITHMETIC[precision].stream != torch.float32):
        raise ModelError(f"--precision {precision} is for VisionTransformers, and this model has a ResNet: use bf16")


def _text_stream(arithmetic: Arithmetic) -> torch.dtype:
    return torch.float32 if arithmetic.float8 else arithmetic.stream


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
    config: Any = torch._dynamo.config  # all blocks of all models share one piece of code and its list of variants
    limit = "recompile_limit" if hasattr(config, "recompile_limit") else "cache_size_limit"  # in torch 2.5
    setattr(config, limit, max(getattr(config, limit), _VARIANTS))
    for module in transformer.modules():
        if isinstance(module, _Block):
            module.compile(backend=backend, dynamic=dynamic)


def _small(tower: nn.Module) -> bool:
    return sum(tensor.numel() * tensor.element_size() for tensor in tower.parameters()) <= _PACKED_MOST


def _prepare(transformer: Transformer, arithmetic: Arithmetic, layers: Layers, everywhere: bool = False) -> None:
    """everywhere: the transformer is read at all positions, not at one."""
    *blocks, last = transformer.resblocks
    inner = replace(layers, float8=arithmetic.float8)
    prepared = [_Block(block, inner if number else layers) for number, block in enumerate(blocks)]
    if everywhere:
        transformer.resblocks = nn.ModuleList([_Blocks([*prepared, _Block(last, layers)], arithmetic)])
    elif blocks:
        transformer.resblocks = nn.ModuleList((_Blocks(prepared, arithmetic), last))


class _Blocks(nn.Module):
    """Blocks read at all positions: all but the last, or all."""

    def __init__(self, blocks: Iterable[_Block], arithmetic: Arithmetic) -> None:
        super().__init__()
        self.blocks, self.arithmetic = nn.ModuleList(blocks), arithmetic

    def forward(self, x: Tensor, causal: bool, positions: None = None) -> Tensor:
        """float32 [n, length, width] -> the same; may overwrite its input."""
        x = x.to(self.arithmetic.stream)
        more = torch.zeros_like(x, dtype=self.arithmetic.products)
        for block in self.blocks:
            x, more = block(x, more, causal)
        x += more
        return x.float()


class _Block(nn.Module):
    """A ResidualAttentionBlock; it overwrites its input."""

    def __init__(self, block: nn.Module, layers: Layers) -> None:
        super().__init__()
        assert isinstance(block, ResidualAttentionBlock)
        self.ln_1, self.ln_2 = layers.norm(block.ln_1), layers.norm(block.ln_2)
        self.attn = _Attention(block.attn, layers)
        self.mlp = _perceptron(block.mlp, layers)

    def forward(self, x: Tensor, more: Tensor, causal: bool) -> tuple[Tensor, Tensor]:
        """The residual stream [n, length, width], and what is to be added to it still -> the same after this block."""
        x += more
        x += self.attn(self.ln_1(x), causal)
        return x, self.mlp(self.ln_2(x))


class _Attention(SelfAttention):
    """Self-attention at all positions, with projections made by `Layers`."""

    def __init__(self, attention: SelfAttention, layers: Layers) -> None:
        nn.Module.__init__(self)
        self.heads = attention.heads
        self.in_proj = layers.linear(attention.in_proj_weight, attention.in_proj_bias)
        self.add_module("out_proj", layers.linear(attention.out_proj.weight, attention.out_proj.bias))

    def project(self, x: Tensor) -> Tensor:
        y: Tensor = self.in_proj(x)
        return y


def _perceptron(mlp: Perceptron, layers: Layers) -> nn.Sequential:
    scale, activation = 1.0, cast(nn.Module, InPlaceGELU(getattr(mlp.gelu, "approximate", "none")))
    if isinstance(mlp.gelu, QuickGELU):
        scale, activation = _QUICK, nn.SiLU(inplace=True)
    return nn.Sequential(
        layers.linear(mlp.c_fc.weight, mlp.c_fc.bias * scale, scale, activation if layers.fuses else None),
        nn.Identity() if layers.fuses else activation,
        layers.linear(mlp.c_proj.weight, mlp.c_proj.bias, 1 / scale),
    )


class Patches(nn.Module):
    """The first convolution of a VisionTransformer: pixels [n, 3, size, size], best channels last in memory ->
    float32 [n, width, grid, grid], as that."""

    def __init__(self, conv: nn.Conv2d, layers: Layers) -> None:
        super().__init__()
        self.patch = conv.kernel_size[0]
        weight = conv.weight.permute(0, 2, 3, 1).flatten(1)  # [width, patch * patch * 3]
        self.linear = layers.linear(weight.contiguous(), conv.bias)

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
