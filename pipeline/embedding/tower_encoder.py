"""What all encoders have in common: passes over batches, launched ahead of their results, with fewer at a time when
memory runs out."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..records import Pixels, TokenIds, Vectors
from .batches import Passes, by_length, pad
from .cuda_feed import CudaFeed
from .device_memory import images_that_fit, peak_on
from .feed import Array, Feed, HostFeed, Late, OnBusy

IMAGES = 32  # a pass on a CPU


class TowerEncoder(ABC):
    """Two towers on one device, where they must be already.

    Captions go through in order of their length, each batch padded to its longest. Equal captions are encoded once.

    On a GPU passes are launched ahead of their results, and another thread may launch while one waits for its own: two
    that call `encode` in turn keep the device busy.
    """

    padding = 0  # the id that fills up shorter captions of a batch

    def __init__(
        self, dim: int, context_length: int, device: torch.device | str, passes: Passes, on_gpu_busy: OnBusy
    ) -> None:
        """passes: their `most` is halved when memory runs out."""
        self.dim, self._context_length, self._device = dim, context_length, torch.device(device)
        self._passes = passes
        self._lock = threading.Lock()  # one thread launches at a time: two would only share the same cores
        self._feed: Feed = HostFeed() if self._device.type == "cpu" else CudaFeed(self._device, on_gpu_busy)
        self._fixed = False  # whether the last batch of images is filled up

    @abstractmethod
    def _image_features(self, loaded: Tensor) -> Tensor:
        """Of images as they were decoded, on the device -> features [n, dim]."""

    @abstractmethod
    def _text_features(self, tokens: Tensor) -> Tensor:
        """int64 [n, length] on the device -> features [n, dim]."""

    @property
    def _images_a_pass(self) -> int:
        return self._passes.most

    @property
    def batch_size(self) -> int:
        """Images a forward pass, at most."""
        return self._passes.most

    def _room(self, blank: Array) -> int:
        """Images a pass that the GPU has room for. blank: one image as it is decoded."""

        def run(images: int) -> Tensor:
            with torch.inference_mode():
                return self._image_features(torch.from_numpy(blank).to(self._device).expand(images, *blank.shape))

        return images_that_fit(peak_on(self._device, run), torch.cuda.mem_get_info(self._device)[0])

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
                if not is_exhaustion(error) or self._passes.most == 1:
                    raise
            # for good: what did not fit once will not fit later
            self._passes = replace(self._passes, most=self._passes.most // 2)
            if self._device.type == "cuda":
                torch.cuda.empty_cache()

    def _image_passes(self, images: Sequence[Pixels]) -> Iterator[Late]:
        size = self._images_a_pass
        for start in range(0, len(images), size):
            batch = images[start : start + size]
            features = self._image_features(self._feed.load(batch, size if self._fixed else len(batch)))
            yield self._feed.fetch(_unit(features[: len(batch)]))

    def _text_passes(self, texts: Sequence[TokenIds]) -> Iterator[Late]:
        """texts: shortest first."""
        for start, end, length in self._passes.texts([len(ids) for ids in texts], self._context_length):
            batch = list(pad(texts[start:end], length, self.padding).numpy())
            features = self._text_features(self._feed.load(batch, self._passes.rows(len(batch))))
            yield self._feed.fetch(_unit(features[: len(batch)]))

    def _gathered(self, results: Sequence[Late]) -> Vectors:
        return np.concatenate([np.empty((0, self.dim), dtype=np.float32), *(late() for late in results)])


def is_exhaustion(error: Exception) -> bool:
    """Whether memory ran out, a GPU's or the host's; torch has a type for the one and words for the other."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "DefaultCPUAllocator" in str(error)


def _unit(features: Tensor) -> Tensor:
    return F.normalize(features.float(), dim=-1)
