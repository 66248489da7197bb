"""A head: linear layers, and what is between them. Embeddings in, scores out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from ..records import Vectors

_APPLY: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda x: x,
    "relu": F.relu,
    "gelu": F.gelu,
    "silu": F.silu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "softmax": lambda x: F.softmax(x, dim=-1),
}


@dataclass(frozen=True)
class Layer:
    """weight: [out, in], bias: [out], of one type; activation: applied afterwards, see `_APPLY`."""

    weight: Tensor
    bias: Tensor
    activation: str


@dataclass(frozen=True)
class Head:
    """Layers without anything between them are one layer: their product, made in double precision. shift: float32 [in],
    taken off the embeddings first."""

    layers: tuple[Layer, ...]
    shift: Tensor | None = None

    @classmethod
    def of(cls, layers: Sequence[Layer], shift: Tensor | None = None, scale: Tensor | None = None) -> Head:
        """scale: [in], which the embeddings are divided by after the shift."""
        folded: list[Layer] = []
        for layer in layers:
            weight, bias = layer.weight.double(), layer.bias.double()
            if not folded and scale is not None:
                weight = weight / scale.double()
            if folded and folded[-1].activation == "none":
                before = folded.pop()
                weight, bias = weight @ before.weight, weight @ before.bias + bias
            folded.append(Layer(weight, bias, layer.activation))
        single = tuple(Layer(x.weight.float(), x.bias.float(), x.activation) for x in folded)
        return cls(single, None if shift is None else shift.float())

    @property
    def outputs(self) -> int:
        return len(self.layers[-1].bias)

    @torch.inference_mode()
    def __call__(self, vectors: Vectors) -> npt.NDArray[np.float32]:
        """float32 [n, in], L2-normalised -> float32 [n, outputs]."""
        x = torch.from_numpy(vectors)
        if self.shift is not None:
            x = x - self.shift
        for layer in self.layers:
            x = _APPLY[layer.activation](torch.addmm(layer.bias, x, layer.weight.T))
        scores: npt.NDArray[np.float32] = x.numpy()
        return scores
