"""Files of heads -> heads. The tensors' names and shapes tell the layers; no code of a file is run."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, zeros

from ..errors import ModelError
from .head import Head, Layer

_MOST_LAYERS = 100
_EPSILON = 1e-10  # added to a standard deviation, as the detector's own code does
_DIGITS = re.compile(r"(\d+)")
_FORWARDED = ("module.", "_orig_mod.")  # before names, where a trainer wrapped the head


@dataclass(frozen=True)
class HeadTensors:
    """A head's tensors in the order in which embeddings pass them; what is between them is not in the file."""

    names: tuple[str, ...]  # of the layers, without `.weight`
    weights: tuple[Tensor, ...]  # [out, in]
    biases: tuple[Tensor, ...]  # [out]
    shift: Tensor | None = None  # [in]
    scale: Tensor | None = None  # [in]

    @property
    def widths(self) -> tuple[int, ...]:
        """Of the input, and of each layer's output."""
        return (self.weights[0].shape[1], *(len(bias) for bias in self.biases))

    def head(self, between: str, last: str) -> Head:
        activations = [*[between] * (len(self.weights) - 1), last]
        layers = [Layer(*parts) for parts in zip(self.weights, self.biases, activations, strict=True)]
        return Head.of(layers, self.shift, self.scale)


def head_tensors(tensors: Mapping[str, Tensor]) -> HeadTensors:
    """Recognises linear layers (`weight` [out, in] with or without `bias` [out]) under whatever names, and the
    statistics that embeddings are normalised by (`mean` with `variance` or `std`). ModelError for anything else."""
    named = {_plain(name): tensor for name, tensor in tensors.items()}
    layers = {_layer(name): tensor for name, tensor in named.items() if _field(name) == "weight" and tensor.ndim == 2}
    if not layers:
        raise ModelError(f"holds no linear layer (a weight of two dimensions), but {_listed(named)}")
    if len(layers) > _MOST_LAYERS:
        raise ModelError(f"holds {len(layers)} linear layers, so it is no head; name the head's own file")
    shift, scale, used = _statistics(named)
    used |= {name for name in named if _field(name) in ("weight", "bias") and _layer(name) in layers}
    if others := {name: tensor for name, tensor in named.items() if name not in used}:
        raise ModelError(
            f"holds {_listed(others)}, which is of no linear layer: export the head as ONNX, or write a --function"
        )
    names = _in_order(layers)
    biases = []
    for name in names:
        width = len(layers[name])
        bias = named.get(f"{name}.bias" if name else "bias", zeros(width))
        if bias.shape != (width,):
            raise ModelError(f"the bias of {name or 'the layer'} has shape {list(bias.shape)}, not [{width}]")
        biases.append(bias)
    first = layers[names[0]].shape[1]
    for tensor in (shift, scale):
        if tensor is not None and tensor.shape != (first,):
            raise ModelError(
                f"its mean and variance have shape {list(tensor.shape)}, but its first layer takes {first}"
            )
    return HeadTensors(tuple(names), tuple(layers[name] for name in names), tuple(biases), shift, scale)


def _in_order(layers: Mapping[str, Tensor]) -> list[str]:
    """By the numbers in their names, as in the file, or by their widths alone: the first order whose widths fit."""
    for order in (sorted(layers, key=_natural), list(layers), _by_widths(layers)):
        if len(order) == len(layers) and all(len(layers[a]) == layers[b].shape[1] for a, b in pairwise(order)):
            return order
    raise ModelError(f"its layers do not follow each other: {_listed(layers)}")


def _by_widths(layers: Mapping[str, Tensor]) -> list[str]:
    """Each before the one that takes its output, the first being the one whose input none gives; empty if unsure."""
    takers: dict[int, list[str]] = {}
    for name, weight in layers.items():
        takers.setdefault(weight.shape[1], []).append(name)
    if any(len(names) > 1 for names in takers.values()):
        return []
    given = {len(weight) for weight in layers.values()}
    order = [names[0] for width, names in takers.items() if width not in given][:1]
    while order and (after := takers.get(len(layers[order[-1]]))):
        order += after
    return order


def _statistics(named: Mapping[str, Tensor]) -> tuple[Tensor | None, Tensor | None, set[str]]:
    """The mean, the standard deviation, and their names."""
    mean = next((name for name in named if _field(name) == "mean"), None)
    if mean is None:
        return None, None, set()
    before = mean.removesuffix("mean")
    used = {name for name in (mean, f"{before}variance", f"{before}std") if name in named}
    if f"{before}std" in named:
        scale = named[f"{before}std"].reshape(-1)
    elif f"{before}variance" in named:
        scale = named[f"{before}variance"].reshape(-1).double().sqrt() + _EPSILON
    else:
        raise ModelError(f"has {mean}, but neither {before}variance nor {before}std")
    return named[mean].reshape(-1), scale, used


def _plain(name: str) -> str:
    while name.startswith(_FORWARDED):
        name = name.partition(".")[2]
    return name


def _field(name: str) -> str:
    return name.rpartition(".")[2]


def _layer(name: str) -> str:
    return name.rpartition(".")[0]


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(piece), "") if piece.isdecimal() else (-1, piece) for piece in _DIGITS.split(name)]


def _listed(tensors: Mapping[str, Tensor]) -> str:
    shown: Iterable[str] = (f"{name} {list(tensor.shape)}" for name, tensor in list(tensors.items())[:4])
    more = f" and {len(tensors) - 4:,} more" if len(tensors) > 4 else ""
    return (", ".join(shown) or "nothing") + more
