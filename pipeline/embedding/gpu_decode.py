"""Encoded images -> squares on the GPU: decoded by its JPEG engines, resized on it, and by a CPU where they refuse."""

from __future__ import annotations

import queue
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ...clipmodel.errors import ImageError
from ...clipmodel.gpu_resize import resize_batch
from ...clipmodel.preprocess import Pixels, Preprocess
from ..records import Positions
from .chunk import Array, Chunk, Failure
from .clock import Clock

_DECODERS = 2  # the engines are busy only while more than one batch is asked of them
_DECODED_BYTES = 1 << 29  # of decoded images at a time, a decoder

_Squares = tuple[Positions, Tensor]  # of which samples of the chunk, and uint8 [n, size, size, 3] on the device


class Engines(Protocol):
    """What decodes JPEGs on a device. `nvimagecodec.py` has the one for NVIDIA's GPUs."""

    def decode(self, files: Sequence[Array], stream: int) -> list[Any]:
        """uint8 [bytes] each -> uint8 [height, width, 3] each, contiguous, with `__cuda_array_interface__` (on a CPU,
        `__array_interface__`); None for what it cannot decode. stream: the CUDA stream on which they will be read. For
        one thread at a time."""
        ...


def open_decoder(device: torch.device | str, ways: Sequence[Preprocess]) -> GpuDecoder | None:
    """None where the device has no engines, or nvImageCodec is not installed."""
    from .nvimagecodec import open_engines

    engines = [opened for _ in range(_DECODERS) if (opened := open_engines(torch.device(device))) is not None]
    return GpuDecoder(device, ways, engines) if engines else None


class GpuDecoder:
    """Decodes and resizes, for each of several ways of preprocessing. Thread-safe: each call takes one of the engines'
    decoders and a CUDA stream of its own."""

    def __init__(self, device: torch.device | str, ways: Sequence[Preprocess], engines: Sequence[Engines]) -> None:
        self._device, self._ways = torch.device(device), tuple(ways)
        self._free: queue.SimpleQueue[tuple[Engines, Any]] = queue.SimpleQueue()
        for decoder in engines:
            self._free.put((decoder, torch.cuda.Stream(self._device) if self._device.type == "cuda" else None))

    def decode(self, chunk: Chunk, clock: Clock) -> Chunk:
        """The chunk with all its images as uint8 [n, size, size, 3] on the device, for each way of preprocessing. What
        neither the engines nor a CPU can decode is a failed row, with the CPU's reason."""
        if not len(chunk.encoded):
            return chunk
        squares: list[list[_Squares]] = [[] for _ in self._ways]
        for parts, pixels in zip(squares, chunk.pixels, strict=False):  # those that a CPU decoded before
            parts.append((chunk.pixels_of, torch.from_numpy(np.array(pixels)).to(self._device)))
        failed: dict[int, Failure] = {}
        with self._taken() as (engines, stream):
            for files, positions, sizes in _groups(chunk):
                with clock.stage("engines"):
                    images = engines.decode(files, stream.cuda_stream if stream else 0)
                    right = [_has_size(image, size) for image, size in zip(images, sizes, strict=True)]
                    refused = {p: f for p, f, fine in zip(positions.tolist(), files, right, strict=True) if not fine}
                    by_cpu = self._by_cpu(refused, failed)
                with clock.stage("resize"):
                    whole = [image for image, fine in zip(images, right, strict=True) if fine]
                    for parts, way, pixels in zip(squares, self._ways, by_cpu, strict=True):
                        resized = resize_batch(whole, way.size, way.config, self._device)
                        parts += [(positions[right], resized), *self._there(pixels)]
                    if stream:
                        stream.synchronize()  # the decoded images may go
            ready = tuple(_in_order(parts) for parts in squares)
            if stream:
                stream.synchronize()
        return chunk.decoded(ready, failed)

    @contextmanager
    def _taken(self) -> Iterator[tuple[Engines, Any]]:
        engines, stream = self._free.get()
        try:
            with torch.cuda.stream(stream) if stream else nullcontext():
                yield engines, stream
        finally:
            self._free.put((engines, stream))

    def _by_cpu(self, files: dict[int, Array], failed: dict[int, Failure]) -> list[dict[int, Pixels]]:
        """Pixels by position, for each way."""
        decoded: list[dict[int, Pixels]] = [{} for _ in self._ways]
        for position, file in files.items():
            try:
                squares = [way(file.tobytes()) for way in self._ways]
            except ImageError as error:
                failed[position] = Failure(f"decode: {error}", *(error.size or (None, None)))
                continue
            for pixels, square in zip(decoded, squares, strict=True):
                pixels[position] = square
        return decoded

    def _there(self, pixels: dict[int, Pixels]) -> Iterator[_Squares]:
        if pixels:
            yield np.array(list(pixels), np.int32), torch.from_numpy(np.stack(list(pixels.values()))).to(self._device)


def _groups(chunk: Chunk) -> Iterator[tuple[list[Array], Positions, list[tuple[int, int]]]]:
    """Files that are decoded together, with their positions and (width, height): as many as memory allows."""
    widths, heights = (chunk.samples.column(name).to_numpy(zero_copy_only=False) for name in ("width", "height"))
    width, height = widths[chunk.encoded_of].astype(np.int64), heights[chunk.encoded_of].astype(np.int64)
    ends = np.cumsum(3 * width * height)
    cuts = np.flatnonzero(np.diff(ends // _DECODED_BYTES)) + 1
    files = list(chunk.encoded)
    for start, end in pairwise([0, *cuts.tolist(), len(files)]):
        sizes = list(zip(width[start:end].tolist(), height[start:end].tolist(), strict=True))
        yield files[start:end], chunk.encoded_of[start:end], sizes


def _has_size(image: Any, size: tuple[int, int]) -> bool:
    """Engines that find another size than the header's have met something that is the CPU's to judge."""
    return image is not None and tuple(image.shape) == (size[1], size[0], 3)


def _in_order(parts: Sequence[_Squares]) -> Tensor:
    positions = np.concatenate([part[0] for part in parts])
    together = torch.cat([part[1] for part in parts])
    return together[torch.from_numpy(np.argsort(positions)).to(together.device)]
