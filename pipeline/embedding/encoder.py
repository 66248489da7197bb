"""Pixels and tokens -> normalised embeddings: the seam between the flow of shards and the model."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ...clipmodel.adapters.model import AdaptedModel
from ...clipmodel.config import CLIPConfig
from ...clipmodel.inference import compile_blocks, for_inference
from ...clipmodel.model import CLIP
from ...clipmodel.preprocess import normalise
from ..choices import Precision
from ..errors import one_line
from ..records import Pixels, TokenIds, Vectors
from .batches import Passes
from .compiled import keep_compiled
from .feed import OnBusy
from .tower_encoder import IMAGES, TowerEncoder, is_exhaustion

_LOG = logging.getLogger(__name__)
_COMPILED_FROM = 512  # width of the text tower


class Encoder(Protocol):
    """What embedding a shard needs of a model. `tests/kit/fakes.py` has another implementation."""

    @property
    def dim(self) -> int: ...

    def encode(self, images: Sequence[Pixels], texts: Sequence[TokenIds]) -> tuple[Vectors, Vectors]:
        """uint8 images [size, size, 3] and token ids [length] -> float32 [images, dim] and [texts, dim], both
        L2-normalised and in the order given. Either may be empty. Thread-safe."""
        ...


class ClipEncoder(TowerEncoder):
    """Our own towers.

    batch_size: images a forward pass, at most; None for what the device has room for. Halved when memory runs out.
    compile_with: a backend of torch.compile, see `compile_blocks`; images then go in batches of one size, the last one
    filled up, captions at a few lengths.

    Each batch of captions is cut at its longest: attention is causal, so what follows [EOS] changes nothing, and web
    captions average 16 tokens of 77.
    """

    def __init__(
        self,
        model: CLIP,
        device: torch.device | str = "cpu",
        precision: Precision = "fp32",
        batch_size: int | None = 32,
        *,
        compile_with: str | None = None,
        on_gpu_busy: OnBusy = lambda _: None,
    ) -> None:
        config, on_cpu = model.config, torch.device(device).type == "cpu"
        passes = Passes(batch_size or IMAGES, cached=on_cpu, step=8 if compile_with else 1)
        super().__init__(config.embed_dim, config.text.context_length, device, passes, on_gpu_busy)
        self._config, self._fixed = config, compile_with is not None
        images = self._images_a_pass if on_cpu else 0
        texts = passes.of_positions(self._context_length) if on_cpu and config.text.pooling == "last" else 0
        self._model = for_inference(model, precision, images, texts)
        if batch_size is None and not on_cpu:
            self._passes = replace(self._passes, most=self._room(self._blank()))
        if compile_with and not self._compiled(compile_with):
            self._model = for_inference(model, precision, images, texts)

    def _blank(self) -> Pixels:
        size = self._config.vision.image_size
        return np.zeros((size, size, 3), np.uint8)

    def _compiled(self, backend: str) -> bool:
        """Whether the blocks could be compiled, which is seen when they are first run; a GPU is no use to somebody
        whose machine lacks a compiler otherwise."""
        keep_compiled(self._device)
        compile_blocks(self._model, backend)
        try:
            self.encode([self._blank()], [np.zeros(8, np.int32), np.ones(12, np.int32)])
        except Exception as error:  # whatever a backend raises
            if is_exhaustion(error):
                raise
            _LOG.warning("torch.compile with %s failed, so the model runs without: %s", backend, one_line(error)[:200])
            return False
        return True

    @property
    def _images_a_pass(self) -> int:
        return self._passes.images(self._config.vision)

    def _image_features(self, loaded: Tensor) -> Tensor:
        return self._model.encode_image(normalise(loaded, self._config.preprocess))

    def _text_features(self, tokens: Tensor) -> Tensor:
        return self._model.encode_text(tokens)


class AdaptedEncoder(TowerEncoder):
    """Another library's towers, as that library runs them. batch_size: as of `ClipEncoder`."""

    def __init__(
        self,
        model: AdaptedModel,
        device: torch.device | str = "cpu",
        precision: Precision = "fp32",
        batch_size: int | None = 32,
        *,
        on_gpu_busy: OnBusy = lambda _: None,
    ) -> None:
        super().__init__(model.embed_dim, model.context_length, device, Passes(batch_size or IMAGES), on_gpu_busy)
        self._model, self.padding = model.for_inference(precision), model.padding
        if batch_size is None and self._device.type != "cpu":
            self._passes = replace(self._passes, most=self._room(model.blank))

    def _image_features(self, loaded: Tensor) -> Tensor:
        return self._model.encode_decoded(loaded)

    def _text_features(self, tokens: Tensor) -> Tensor:
        return self._model.encode_text(tokens)


def encoder_of(
    model: CLIP | AdaptedModel,
    device: torch.device | str = "cpu",
    precision: Precision = "fp32",
    batch_size: int | None = 32,
    *,
    compiled: bool = False,
    on_gpu_busy: OnBusy = lambda _: None,
) -> ClipEncoder | AdaptedEncoder:
    """The fastest that there is for a model. compiled: whether so many are encoded that compiling is worth its time."""
    if isinstance(model, AdaptedModel):
        return AdaptedEncoder(model, device, precision, batch_size, on_gpu_busy=on_gpu_busy)
    backend = backend_for(model.config, device) if compiled else None
    return ClipEncoder(model, device, precision, batch_size, compile_with=backend, on_gpu_busy=on_gpu_busy)


def backend_for(config: CLIPConfig, device: torch.device | str) -> str | None:
    """What `compile_with` should be where many are encoded: small models take longer to compile than they save."""
    return "inductor" if torch.device(device).type == "cuda" and config.text.width >= _COMPILED_FROM else None
