"""The floating-point operations of a model, and the peak of a device: their ratio is the model FLOP utilisation.

Counted from the definition of the architectures: matrix products and convolutions only, two operations for a multiply
and add (Chowdhery et al. 2022, appendix B). Figures therefore compare with other publications; an implementation may
need fewer.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .config import CLIPConfig, VisionConfig

# FLOP per second of dense bfloat16 or float16 products, from the makers' data sheets. The first name contained in the
# device's own name counts.
GPU_PEAKS = {
    "B200": 2250e12,
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "A100": 312e12,
    "A800": 312e12,
    "L40S": 362e12,
    "L40": 181e12,
    "L4": 121e12,
    "A40": 150e12,
    "A30": 165e12,
    "A10G": 70e12,
    "A10": 125e12,
    "V100": 125e12,
    "T4": 65e12,
    "RTX 4090": 165e12,
    "RTX 3090": 71e12,
    "MI300X": 1307e12,
    "MI250X": 383e12,
}
_PROBE = 1024  # rows and columns of the matrices whose product measures a CPU
_PROBES = 5


@dataclass(frozen=True)
class Flops:
    """Floating-point operations of one model's forward passes."""

    image: float
    token: float  # for each token of a caption
    pair_of_tokens: float  # for the attention between two tokens of a caption
    caption: float  # for each caption, whatever its length
    context_length: int
    padded: bool = False  # captions go through at the context length, however short they are

    @classmethod
    def of(cls, config: CLIPConfig) -> Flops:
        text = config.text
        image = _resnet(config.vision) if config.vision.is_resnet else _vit(config.vision)
        projection = 2 * config.vision.output_width * config.embed_dim
        pooled = _pooled(config.vision) if config.vision.pooling == "attention" else projection
        return cls(
            image=image + pooled,
            token=text.layers * _layer(text.width, text.mlp_width),
            pair_of_tokens=text.layers * 4 * text.width,
            caption=2 * text.width * config.embed_dim,
            context_length=text.context_length,
            padded=text.pooling == "last",
        )

    def total(self, images: int, lengths: Sequence[int]) -> float:
        """lengths: tokens of each caption, [SOS] and [EOS] included; tokens past the context length do not count."""
        tokens = np.minimum(np.asarray(lengths, dtype=np.float64), self.context_length)
        if self.padded:
            tokens = np.full_like(tokens, self.context_length)
        texts = self.token * tokens.sum() + self.pair_of_tokens * (tokens**2).sum() + self.caption * len(tokens)
        return self.image * images + float(texts)


def _layer(width: int, hidden: int) -> float:
    """A residual attention block, per token: query, key, value and output projections, and the perceptron."""
    return 2 * (4 * width * width + 2 * width * hidden)


def _vit(vision: VisionConfig) -> float:
    assert isinstance(vision.layers, int)
    width, patches, tokens = vision.width, (vision.image_size // vision.patch_size) ** 2, vision.positions
    embedding = 2 * patches * 3 * vision.patch_size**2 * width
    return embedding + vision.layers * (tokens * _layer(width, vision.mlp_width) + 4 * tokens**2 * width)


def _pooled(vision: VisionConfig) -> float:
    """An attention head: a key and a value for each token, one query, its output, and a perceptron."""
    width = vision.width
    return 4 * vision.positions * width * (width + 1) + 4 * width * width + 4 * width * vision.mlp_width


def _resnet(vision: VisionConfig) -> float:
    assert isinstance(vision.layers, tuple)
    side, width = vision.image_size // 2, vision.width
    stem = side**2 * (_conv(3, width // 2, 3) + _conv(width // 2, width // 2, 3) + _conv(width // 2, width, 3))
    total, inputs, side = stem, width, side // 2
    for stage, blocks in enumerate(vision.layers):
        planes = width * 2**stage
        outputs, before = 4 * planes, side
        side = side if stage == 0 else side // 2
        first = _conv(inputs, planes, 1) + _conv(planes, planes, 3)  # before the stride
        last = _conv(planes, outputs, 1)
        total += before**2 * first + side**2 * (last + _conv(inputs, outputs, 1))
        total += (blocks - 1) * side**2 * (_conv(outputs, planes, 1) + _conv(planes, planes, 3) + last)
        inputs = outputs
    positions = side**2 + 1  # the attention pool: a key and a value for each, one query
    return total + 2 * (2 * positions + 1) * inputs**2 + 4 * positions * inputs


def _conv(inputs: int, outputs: int, kernel: int) -> float:
    """A convolution, per position of its output."""
    return 2 * inputs * outputs * kernel**2


def peak(device: str, precision: str) -> float | None:
    """The most FLOP per second that the device can do: for a GPU from its data sheet, for a CPU as measured now with
    torch's current threads in a large product. None where it is not known."""
    if device.startswith("cuda"):
        import torch  # here, as the table of models is shown without it

        if precision == "fp32":
            return None
        name = torch.cuda.get_device_name(device)
        known = next((flops for known, flops in GPU_PEAKS.items() if known in name), None)
        return 2 * known if known and precision == "fp8" else known  # in half the bits, on all that have it
    if precision != "fp32":
        return None
    return _measured()


def _measured() -> float:
    import torch

    a, b = torch.rand(2, _PROBE, _PROBE)
    best = float("inf")
    for _ in range(_PROBES):
        start = time.perf_counter()
        torch.mm(a, b)
        best = min(best, time.perf_counter() - start)
    return 2 * _PROBE**3 / best
