"""Encoders alone, with images that lie on the device: what its matrix units do of what they can."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import hugging_face
import numpy as np
import reference
import torch
import torch.nn.functional as F
import transformers
from clipmill.clipmodel.config import CLIPConfig, Precision
from clipmill.clipmodel.float8 import quantised
from clipmill.clipmodel.inference import compile_blocks, for_inference
from clipmill.clipmodel.model import CLIP
from clipmill.clipmodel.preprocess import normalise
from clipmill.pipeline.embedding.compiled import keep_compiled
from clipmill.pipeline.embedding.encoder import ClipEncoder, backend_for
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

Call = Callable[[Tensor], Tensor]  # normalised pixels -> features

_SIDE = {"cuda": 8192, "cpu": 256}  # of the square matrices of the peak


def peak(device: str, precision: Precision, seconds: float) -> float:
    """FLOP a second of a large matrix product, with random numbers: zeros are faster. NaN where there is none."""
    size = _SIDE[device]
    a, b = torch.randn(2, size, size, device=device, dtype=torch.bfloat16)
    call: Callable[[], object] = lambda: torch.mm(a, b)  # noqa: E731
    if precision == "fp8":
        (rows, scales), (columns, others) = quantised(a), quantised(b)
        kind = {"out_dtype": torch.bfloat16, "use_fast_accum": True}
        call = lambda: torch._scaled_mm(rows, columns.t(), scales, others.t(), **kind)  # noqa: E731
    try:
        return 2 * size**3 * repeated(call, device, seconds)
    except RuntimeError:  # this release of torch has no such product on CPUs
        return float("nan")


def repeated(call: Callable[[], object], device: str, seconds: float) -> float:
    """Calls a second, for about so long, after three that warm it up."""
    for _ in range(3):
        call()
    _wait(device)
    calls, started = 0, time.perf_counter()
    while not calls or time.perf_counter() - started < seconds:
        for _ in range(4):
            call()
        calls += 4
        _wait(device)
    return calls / (time.perf_counter() - started)


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


class Tower:
    """One model's image tower on a device, in our ways and in others', with random weights: they cost what trained ones
    do, and `bench_towers.py` compares the answers."""

    def __init__(self, config: CLIPConfig, device: str, batch: int) -> None:
        self.config, self.device, self.batch = config, device, batch
        with torch.device(device):  # made there: the largest would take the host half a minute
            self.model = CLIP(config).eval().requires_grad_(False)
        size = config.vision.image_size
        drawn = np.random.default_rng(0).integers(0, 256, (batch, size, size, 3), dtype=np.uint8)
        self.pixels = torch.from_numpy(drawn).to(device)

    @torch.inference_mode()
    def ours(self, precision: Precision) -> Call:
        copy = for_inference(self.model, precision)
        if backend := backend_for(self.config, self.device):
            keep_compiled(torch.device(self.device))
            compile_blocks(copy, backend)
        return copy.encode_image

    def reference(self) -> Call:
        """With its weights in bfloat16 but for its norms', as it converts itself for speed."""
        theirs = reference.model(self.config, self.model.state_dict()).to(self.device, torch.bfloat16)
        for module in theirs.modules():
            if isinstance(module, nn.LayerNorm):
                module.float()
        encode: Call = theirs.encode_image
        return encode

    def transformers(self) -> Call:
        with torch.device(self.device):
            theirs = transformers.CLIPModel(hugging_face.settings(self.config)).eval().to(torch.bfloat16)
        return lambda pixels: theirs.visual_projection(theirs.vision_model(pixel_values=pixels).pooler_output)

    @torch.inference_mode()
    def rate(self, call: Call, seconds: float, dtype: torch.dtype = torch.float32) -> float:
        """Images a second, from uint8 on the device to features there."""

        def run() -> Tensor:
            return call(normalise(self.pixels, self.config.preprocess, dtype))

        return self.batch * repeated(run, self.device, seconds)

    @torch.inference_mode()
    def cosines(self, call: Call) -> Tensor:
        """Of some images' features with those in float32."""
        pixels = normalise(self.pixels, self.config.preprocess)  # all of them: compiled for this number
        few = slice(0, 32)
        exact = self.model.encode_image(pixels[few])
        return F.cosine_similarity(call(pixels)[few].float(), exact)

    def encoder(self) -> ClipEncoder:
        return self.encoder_of(self.model, self.device, None if self.device == "cuda" else self.batch)

    @staticmethod
    def encoder_of(model: CLIP, device: str, batch: int | None) -> ClipEncoder:
        return ClipEncoder(model, device, "bf16", batch, compile_with=backend_for(model.config, device))


def attention(config: CLIPConfig, device: str, batch: int, backend: str, seconds: float) -> float:
    """Passes of one layer's attention a second, as the image tower lays its queries, keys and values out."""
    vision = config.vision
    tokens = (vision.image_size // vision.patch_size) ** 2 + 1
    shape = (batch, tokens, 3, vision.heads, vision.head_width)
    query, key, value = torch.randn(shape, device=device, dtype=torch.bfloat16).permute(2, 0, 3, 1, 4)
    with torch.inference_mode(), sdpa_kernel(getattr(SDPBackend, backend)):
        return repeated(lambda: F.scaled_dot_product_attention(query, key, value), device, seconds)


def from_memory(encoder: ClipEncoder, config: CLIPConfig, images: int) -> float:
    """Images a second through `ClipEncoder`, from arrays to vectors in memory."""
    size = config.vision.image_size
    drawn = np.random.default_rng(1).integers(0, 256, (min(images, 1024), size, size, 3), dtype=np.uint8)
    pixels = [drawn[number % len(drawn)] for number in range(images)]
    encoder.encode(pixels[: encoder.batch_size], [])  # warm
    started = time.perf_counter()
    encoder.encode(pixels, [])
    return images / (time.perf_counter() - started)


def shallow(config: CLIPConfig, layers: int = 3) -> CLIPConfig:
    """For when it only has to run."""
    return replace(config, vision=replace(config.vision, layers=layers), text=replace(config.text, layers=2))
