"""NVIDIA's nvImageCodec: the JPEG engines of a GPU, or libjpeg-turbo on a CPU through the same calls, for tests."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import simplejpeg
import torch

from ...clipmodel.gpu_resize import as_tensor
from .chunk import Array

_THREADS = 2  # that prepare a batch for the engines


class NvImageCodec:
    """One decoder. Its images are decoded in the order of their sizes, several at once."""

    def __init__(self, codec: Any, device: torch.device) -> None:
        self._codec = codec
        on_gpu = device.type == "cuda"
        backend = codec.BackendKind.HW_GPU_ONLY if on_gpu else codec.BackendKind.CPU_ONLY
        number = (device.index or 0) if on_gpu else codec.NVIMGCODEC_DEVICE_CPU_ONLY
        backends = [codec.Backend(backend)]
        self._decoder = codec.Decoder(device_id=number, max_num_cpu_threads=_THREADS, backends=backends)
        self._parameters = codec.DecodeParams(apply_exif_orientation=False, color_spec=codec.ColorSpec.SRGB)

    def decode(self, files: Sequence[Array], stream: int) -> list[Any]:
        """As `Engines.decode`."""
        if not files:
            return []
        streams = [self._codec.CodeStream(file) for file in files]
        images: list[Any] = self._decoder.decode(streams, params=self._parameters, cuda_stream=stream)
        return images


def open_engines(device: torch.device) -> NvImageCodec | None:
    """None where nvImageCodec is not installed, or the device decodes no JPEG to the pixels of libjpeg-turbo."""
    os.environ.setdefault("PYNVIMGCODEC_VERBOSITY", "0")  # it prints a line for each image that it refuses
    try:
        from nvidia import nvimgcodec

        engines = NvImageCodec(nvimgcodec, device)
        return engines if _works(engines, device) else None
    except (ImportError, RuntimeError, OSError):
        return None


def _works(engines: NvImageCodec, device: torch.device) -> bool:
    ramp = (np.add.outer(np.arange(384), np.arange(512)) // 4).astype(np.uint8)  # some refuse small pictures
    picture = np.ascontiguousarray(np.stack([ramp, ramp // 2, 255 - ramp], axis=-1))
    file = simplejpeg.encode_jpeg(picture, 90, colorsubsampling="420")
    (image,) = engines.decode([np.frombuffer(file, np.uint8)], 0)
    if image is None:
        return False
    decoded = as_tensor(image, device).cpu().numpy().astype(np.int16)
    return bool(np.abs(decoded - simplejpeg.decode_jpeg(file)).max() <= 2)
