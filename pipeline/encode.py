"""Pixels and tokens -> normalised embeddings: the seam between the flow of shards and the model."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from ..clipmodel.model import CLIP
from ..clipmodel.preprocess import normalise
from .choices import Precision
from .records import Pixels, TokenIds

Vectors = npt.NDArray[np.float32]  # [n, dim], L2-normalised

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
_TEXTS_AN_IMAGE = 4  # captions a batch, for each image a batch: a caption costs a fraction of an image


class Encoder(Protocol):
    """What embedding a shard asks of a model. `tests/fakes.py` has the other implementation."""

    @property
    def dim(self) -> int: ...

    def encode(self, images: Sequence[Pixels], texts: Sequence[TokenIds]) -> tuple[Vectors, Vectors]:
        """uint8 images [size, size, 3] and token ids [length] -> float32 [images, dim] and [texts, dim], both
        L2-normalised and in the order given. Either may be empty. Thread-safe."""
        ...


class ClipEncoder:
    """A CLIP model on one device.

    batch_size: images a forward pass; halved when memory runs out. Captions go through in order of their length, each
    batch cut at its longest: attention is causal, so what follows [EOS] changes nothing, and web captions average 16
    tokens of 77. Equal captions are encoded once.
    """

    def __init__(
        self, model: CLIP, device: torch.device | str = "cpu", precision: Precision = "fp32", batch_size: int = 32
    ) -> None:
        self.dim = model.config.embed_dim
        self._model, self._device, self._batch_size = model, torch.device(device), batch_size
        self._precision = precision
        self._lock = threading.Lock()  # one forward pass at a time: two would only share the same cores

    def encode(self, images: Sequence[Pixels], texts: Sequence[TokenIds]) -> tuple[Vectors, Vectors]:
        with self._lock, torch.inference_mode(), self._autocast():
            while True:
                try:
                    return self._images(images), self._texts(texts)
                except (RuntimeError, MemoryError) as error:
                    if not _is_exhaustion(error) or self._batch_size == 1:
                        raise
                self._batch_size //= 2  # for good: what did not fit once will not fit later
                if self._device.type == "cuda":
                    torch.cuda.empty_cache()

    def _images(self, images: Sequence[Pixels]) -> Vectors:
        vectors = np.empty((len(images), self.dim), dtype=np.float32)
        for start in range(0, len(images), self._batch_size):
            stacked = torch.from_numpy(np.stack(images[start : start + self._batch_size]))
            pixels = normalise(stacked.to(self._device, non_blocking=True), self._model.config.preprocess)
            vectors[start : start + len(pixels)] = _unit(self._model.encode_image(pixels))
        return vectors

    def _texts(self, texts: Sequence[TokenIds]) -> Vectors:
        places: dict[bytes, list[int]] = {}
        for place, ids in enumerate(texts):
            places.setdefault(ids.tobytes(), []).append(place)
        distinct = sorted((where for where in places.values()), key=lambda where: len(texts[where[0]]))
        vectors = np.empty((len(texts), self.dim), dtype=np.float32)
        size = self._batch_size * _TEXTS_AN_IMAGE
        for start in range(0, len(distinct), size):
            batch = distinct[start : start + size]
            tokens = pad([texts[where[0]] for where in batch])
            encoded = _unit(self._model.encode_text(tokens.to(self._device, non_blocking=True)))
            for where, vector in zip(batch, encoded, strict=True):
                vectors[where] = vector
        return vectors

    def _autocast(self) -> AbstractContextManager[object]:
        dtype = _DTYPES.get(self._precision)
        return torch.autocast(self._device.type, dtype) if dtype else nullcontext()


def _is_exhaustion(error: Exception) -> bool:
    """Whether memory ran out, a GPU's or the host's; torch has a type for the one and words for the other."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "DefaultCPUAllocator" in str(error)


def pad(rows: Sequence[TokenIds]) -> Tensor:
    """Token ids -> int64 [n, longest], zero-padded: [EOS], the highest id, stays each row's maximum."""
    tokens = np.zeros((len(rows), max(map(len, rows))), dtype=np.int64)
    for padded, ids in zip(tokens, rows, strict=True):
        padded[: len(ids)] = ids
    return torch.from_numpy(tokens)


def _unit(features: Tensor) -> Vectors:
    unit: Vectors = F.normalize(features.float(), dim=-1).cpu().numpy()
    return unit
