"""Pixels and tokens -> normalised embeddings: the seam between the flow of shards and the model."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...clipmodel.config import CLIPConfig
from ...clipmodel.inference import compile_blocks, for_inference
from ...clipmodel.model import CLIP
from ...clipmodel.preprocess import normalise
from ..choices import Precision
from ..errors import one_line
from ..records import Pixels, TokenIds, Vectors
from .batches import Passes, by_length, pad
from .compiled import keep_compiled
from .cuda_feed import CudaFeed
from .device_memory import images_that_fit, peak_on
from .feed import Feed, HostFeed, Late, OnBusy

_LOG = logging.getLogger(__name__)
_IMAGES = 32  # a pass on a CPU
_COMPILED_FROM = 512  # width of the text tower


class Encoder(Protocol):
    """What embedding a shard needs of a model. `tests/kit/fakes.py` has another implementation."""

    @property
    def dim(self) -> int: ...

    def encode(self, images: Sequence[Pixels], texts: Sequence[TokenIds]) -> tuple[Vectors, Vectors]:
        """uint8 images [size, size, 3] and token ids [length] -> float32 [images, dim] and [texts, dim], both
        L2-normalised and in the order given. Either may be empty. Thread-safe."""
        ...


class ClipEncoder:
    """A CLIP model on one device, where it must be already.

    batch_size: images a forward pass, at most; None for what the device has room for. Halved when memory runs out.
    compile_with: a backend of torch.compile, see `compile_blocks`; images then go in batches of one size, the last one
    filled up, captions at a few lengths.

    Captions go through in order of their length, each batch cut at its longest: attention is causal, so what follows
    [EOS] changes nothing, and web captions average 16 tokens of 77. Equal captions are encoded once.

    On a GPU passes are launched ahead of their results, and another thread may launch while one waits for its own: two
    that call `encode` in turn keep the device busy.
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
        self.dim = model.config.embed_dim
        self._config, self._device, self._fixed = model.config, torch.device(device), compile_with is not None
        self._lock = threading.Lock()  # one thread launches at a time: two would only share the same cores
        on_cpu = self._device.type == "cpu"
        self._feed: Feed = HostFeed() if on_cpu else CudaFeed(self._device, on_gpu_busy)
        self._passes = Passes(batch_size or _IMAGES, cached=on_cpu, step=8 if compile_with else 1)
        images = self._passes.images(model.config.vision) if on_cpu else 0
        self._model = for_inference(model, precision, images)
        if batch_size is None and not on_cpu:
            self._passes = replace(self._passes, most=self._room())
        if compile_with and not self._compiled(compile_with):
            self._model = for_inference(model, precision, images)

    @property
    def batch_size(self) -> int:
        """Images a forward pass, at most."""
        return self._passes.most

    def _room(self) -> int:
        size = self._config.vision.image_size

        def run(images: int) -> Tensor:
            with torch.inference_mode():
                pixels = torch.zeros((images, size, size, 3), dtype=torch.uint8, device=self._device)
                return self._model.encode_image(normalise(pixels, self._config.preprocess))

        return images_that_fit(peak_on(self._device, run), torch.cuda.mem_get_info(self._device)[0])

    def _compiled(self, backend: str) -> bool:
        """Whether the blocks could be compiled, which is seen when they are first run; a GPU is no use to somebody
        whose machine lacks a compiler otherwise."""
        keep_compiled(self._device)
        compile_blocks(self._model, backend)
        size = self._config.vision.image_size
        try:
            self.encode([np.zeros((size, size, 3), np.uint8)], [np.zeros(8, np.int32), np.ones(12, np.int32)])
        except Exception as error:  # whatever a backend raises
            if _is_exhaustion(error):
                raise
            _LOG.warning("torch.compile with %s failed, so the model runs without: %s", backend, one_line(error)[:200])
            return False
        return True

    def encode(self, images: Sequence[Pixels], texts: Sequence[TokenIds]) -> tuple[Vectors, Vectors]:
        positions = by_length(texts)
        with self._lock, torch.inference_mode():
            late_images, late_texts = self._launched(images, [texts[same[0]] for same in positions])
        distinct, vectors = self._gathered(late_texts), np.empty((len(texts), self.dim), dtype=np.float32)
        for same, vector in zip(positions, distinct, strict=True):
            vectors[same] = vector
        return self._gathered(late_images), vectors

    def _launched(self, images: Sequence[Pixels], texts: Sequence[TokenIds]) -> tuple[list[Late], list[Late]]:
        """Both towers' passes, begun if not done, again with fewer at a time if memory runs out."""
        while True:
            try:
                return list(self._image_passes(images)), list(self._text_passes(texts))
            except (RuntimeError, MemoryError) as error:
                if not _is_exhaustion(error) or self._passes.most == 1:
                    raise
            # for good: what did not fit once will not fit later
            self._passes = replace(self._passes, most=self._passes.most // 2)
            if self._device.type == "cuda":
                torch.cuda.empty_cache()

    def _image_passes(self, images: Sequence[Pixels]) -> Iterator[Late]:
        size = self._passes.images(self._config.vision)
        for start in range(0, len(images), size):
            batch = images[start : start + size]
            loaded = self._feed.load(batch, size if self._fixed else len(batch))
            features = self._model.encode_image(normalise(loaded, self._config.preprocess))
            yield self._feed.fetch(_unit(features[: len(batch)]))

    def _text_passes(self, texts: Sequence[TokenIds]) -> Iterator[Late]:
        """texts: shortest first."""
        for start, end, length in self._passes.texts([len(ids) for ids in texts], self._config.text.context_length):
            batch = list(pad(texts[start:end], length).numpy())
            features = self._model.encode_text(self._feed.load(batch, self._passes.rows(len(batch))))
            yield self._feed.fetch(_unit(features[: len(batch)]))

    def _gathered(self, results: Sequence[Late]) -> Vectors:
        return np.concatenate([np.empty((0, self.dim), dtype=np.float32), *(late() for late in results)])


def backend_for(config: CLIPConfig, device: torch.device | str) -> str | None:
    """What `compile_with` should be where many are encoded: small models take longer to compile than they save."""
    return "inductor" if torch.device(device).type == "cuda" and config.text.width >= _COMPILED_FROM else None


def _is_exhaustion(error: Exception) -> bool:
    """Whether memory ran out, a GPU's or the host's; torch has a type for the one and words for the other."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "DefaultCPUAllocator" in str(error)


def _unit(features: Tensor) -> Tensor:
    return F.normalize(features.float(), dim=-1)
