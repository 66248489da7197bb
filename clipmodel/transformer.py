"""Residual attention blocks, shared by the text transformer and the VisionTransformer (paper, section 2.4).

Parameter names are the reference implementation's, so that its checkpoints load as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .config import Activation

Affine = tuple[Tensor, Tensor]  # weight [outputs, inputs] and bias [outputs]


class QuickGELU(nn.Module):
    """x * sigmoid(1.702 x): the approximation of GELU that OpenAI's weights were trained with."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


ACTIVATIONS: dict[Activation, Callable[[], nn.Module]] = {
    "quick_gelu": QuickGELU,
    "gelu": nn.GELU,
    "gelu_tanh": partial(nn.GELU, approximate="tanh"),
}


class SelfAttention(nn.Module):
    """Multi-head self-attention with one fused query-key-value projection."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, x: Tensor, causal: bool, positions: Tensor | None = None) -> Tensor:
        """[n, length, width] -> the same; with int positions [n], only the output at that position: [n, width]."""
        return self._at_all(x, causal) if positions is None else self._at_one(x, causal, positions)

    def _at_all(self, x: Tensor, causal: bool) -> Tensor:
        n, length, width = x.shape
        qkv = self.project(x).view(n, length, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # 3 x [n, heads, length, head_width]
        x = F.scaled_dot_product_attention(query, key, value, is_causal=causal)
        return self.out_proj(x.transpose(1, 2).reshape(n, length, width))

    def project(self, x: Tensor) -> Tensor:
        """Queries, keys and values of all heads: [n, length, width] -> [n, length, 3 * width]."""
        return F.linear(x, self.in_proj_weight, self.in_proj_bias)

    def _at_one(self, x: Tensor, causal: bool, positions: Tensor) -> Tensor:
        to_query, to_key, to_value = zip(self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3), strict=True)
        query = F.linear(rows_at(x, positions), *to_query)
        hidden = positions[:, None] < torch.arange(x.shape[1], device=x.device) if causal else None
        return self.out_proj(attend_once(query, x, to_key, to_value, self.heads, hidden))


def rows_at(x: Tensor, positions: Tensor) -> Tensor:
    """The vector at one position of each row: [n, length, width] and int [n] -> [n, width]."""
    return x[torch.arange(len(x), device=x.device), positions]


def attend_once(
    query: Tensor, x: Tensor, to_key: Affine, to_value: Affine, heads: int, hidden: Tensor | None = None
) -> Tensor:
    """Attention of one query per row, [n, width], over x [n, length, width], without computing x's keys and values.

    Both are linear in x: q . (K x) = (q K) . x, and V may be applied to the weighted mean of x instead of to each of
    its rows. Computed in float32, or in float64 where x is: a score rounded to half precision changes its weight by
    percents.

    hidden: bool [n, length], True where the query must not look.
    """
    dtype = torch.promote_types(x.dtype, torch.float32)
    with torch.autocast(x.device.type, enabled=False):
        key, key_bias, value, value_bias = (t.to(dtype) for t in (*to_key, *to_value))
        x = x.to(dtype)
        per_head = query.to(dtype).unflatten(1, (heads, -1)).transpose(0, 1)  # [heads, n, head_width]
        per_head = per_head * per_head.shape[-1] ** -0.5
        seeks = per_head @ key.unflatten(0, (heads, -1))  # [heads, n, width]
        offset = per_head @ key_bias.view(heads, -1, 1)  # [heads, n, 1]
        scores = seeks.transpose(0, 1) @ x.transpose(1, 2) + offset.transpose(0, 1)  # [n, heads, length]
        if hidden is not None:
            scores = scores.masked_fill(hidden[:, None], float("-inf"))
        means = (scores.softmax(dim=-1) @ x).transpose(0, 1)  # [heads, n, width]
        values = means @ value.unflatten(0, (heads, -1)).transpose(1, 2)  # [heads, n, head_width]
        return (values.transpose(0, 1).flatten(1) + value_bias).to(query.dtype)


class Perceptron(nn.Module):
    """Two linear layers around the activation, which the reference calls `gelu` whichever it is."""

    def __init__(self, width: int, hidden: int, activation: Activation) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, hidden)
        self.gelu = ACTIVATIONS[activation]()
        self.c_proj = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.c_proj(self.gelu(self.c_fc(x)))


class ResidualAttentionBlock(nn.Module):
    """Pre-norm attention and a two-layer perceptron, each added to the residual stream."""

    def __init__(self, width: int, heads: int, mlp_width: int, activation: Activation, epsilon: float = 1e-5) -> None:
        super().__init__()
        self.attn = SelfAttention(width, heads)
        self.ln_1 = nn.LayerNorm(width, epsilon)
        self.mlp = Perceptron(width, mlp_width, activation)
        self.ln_2 = nn.LayerNorm(width, epsilon)

    def forward(self, x: Tensor, causal: bool, positions: Tensor | None = None) -> Tensor:
        """[n, length, width] -> the same; with int positions [n], only the output there, at less cost: [n, width]."""
        attended = self.attn(self.ln_1(x), causal, positions)
        x = (x if positions is None else rows_at(x, positions)) + attended
        return x + self.mlp(self.ln_2(x))


class Transformer(nn.Module):
    """A stack of blocks. Where it is read at one position of each row, the last block computes only that position.

    With `checkpointing`, activations are recomputed in the backward pass.
    """

    def __init__(
        self,
        width: int,
        layers: int,
        heads: int,
        mlp_width: int,
        activation: Activation,
        causal: bool,
        epsilon: float = 1e-5,
    ) -> None:
        super().__init__()
        self.width, self.layers, self.causal = width, layers, causal
        self.checkpointing = False
        self.resblocks = nn.ModuleList(
            ResidualAttentionBlock(width, heads, mlp_width, activation, epsilon) for _ in range(layers)
        )

    def forward(self, x: Tensor, positions: Tensor | None = None) -> Tensor:
        """[n, length, width] -> the same; with the positions to read, int [n], -> [n, width]."""
        *blocks, last = self.resblocks
        for block in blocks:
            x = self._run(block, x)
        return self._run(last, x, positions)

    def _run(self, block: nn.Module, x: Tensor, positions: Tensor | None = None) -> Tensor:
        if self.checkpointing and self.training:
            return checkpoint(block, x, self.causal, positions, use_reentrant=False)
        return block(x, self.causal, positions)
