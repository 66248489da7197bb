"""Pixels and tokens -> normalised embeddings: the seam between the flow of shards and the model."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from ..clipmodel.inference import for_inference
from ..clipmodel.model import CLIP
from ..clipmodel.preprocess import normalise
from .batches import Passes, by_length, pad
from .choices import Precision
from .feed import Feed, HostFeed, Late
from .records import Pixels, TokenIds

Vectors = npt.NDArray[np.float32]  # [n, dim], L2-normalised

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Encoder(Protocol):
    """What embedding a shard asks of a model. `tests/fakes.py` has the other implementation."""

    @property
    def dim(self) -> int: ...

    def encode(self, images: Sequence[Pixels], texts: Sequence[TokenIds]) -> tuple[Vectors, Vectors]:
        """uint8 images [size, size, 3] and token ids [length] -> float32 [images, dim] and [texts, dim], both
        L2-normalised and in the order given. Either may be empty. Thread-safe."""
        ...


class ClipEncoder:
    """A CLIP model on one device, where it must be already.

    batch_size: images a forward pass, at most; halved when memory runs out. Captions go through in order of their
    length, each batch cut at its longest: attention is causal, so what follows [EOS] changes nothing, and web captions
    average 16 tokens of 77. Equal captions are encoded once.
    """

    def __init__(
        self, model: CLIP, device: torch.device | str = "cpu", precision: Precision = "fp32", batch_size: int = 32
    ) -> None:
        self.dim = model.config.embed_dim
        self._config, self._device = model.config, torch.device(device)
        self._passes = Passes(batch_size, cached=self._device.type == "cpu")
        self._model = for_inference(model, _DTYPES[precision], self._passes.images(model.config.vision))
        self._feed: Feed = HostFeed()
        self._lock = threading.Lock()  # one forward pass at a time: two would only share the same cores

    def encode(self, images: Sequence[Pixels], texts: Sequence[TokenIds]) -> tuple[Vectors, Vectors]:
        places = by_length(texts)
        with self._lock, torch.inference_mode():
            late_images, late_texts = self._launched(images, [texts[where[0]] for where in places])
        distinct, vectors = self._gathered(late_texts), np.empty((len(texts), self.dim), dtype=np.float32)
        for where, vector in zip(places, distinct, strict=True):
            vectors[where] = vector
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
            pixels = normalise(self._feed.load(batch, len(batch)), self._config.preprocess)
            yield self._feed.fetch(_unit(self._model.encode_image(pixels)))

    def _text_passes(self, texts: Sequence[TokenIds]) -> Iterator[Late]:
        """texts: shortest first."""
        for start, end, length in self._passes.texts([len(ids) for ids in texts], self._config.text.context_length):
            tokens = self._feed.load(list(pad(texts[start:end], length).numpy()), end - start)
            yield self._feed.fetch(_unit(self._model.encode_text(tokens)))

    def _gathered(self, results: Sequence[Late]) -> Vectors:
        return np.concatenate([np.empty((0, self.dim), dtype=np.float32), *(late() for late in results)])


def _is_exhaustion(error: Exception) -> bool:
    """Whether memory ran out, a GPU's or the host's; torch has a type for the one and words for the other."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "DefaultCPUAllocator" in str(error)


def _unit(features: Tensor) -> Tensor:
    return F.normalize(features.float(), dim=-1)
