"""Images of different sizes on a GPU -> one batch of squares, to the last bit as `exact_resize` makes them.

Three launches a batch, whatever is in it: one computes the weights of both axes, two resample. Images are told by their
addresses, so that an image costs the processor a few numbers. Without Triton, or off a GPU, `exact_resize` does the
same image by image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .config import PreprocessConfig
from .exact_resize import Plans, resize_and_crop

# What both libraries call an array that lies on a device: numpy's arrays, nvImageCodec's images, torch's tensors.
Interface = dict[str, Any]


def resize_batch(images: Sequence[Any], size: int, config: PreprocessConfig, device: torch.device) -> Tensor:
    """images: uint8 [height, width, 3] on the device, contiguous, with `__cuda_array_interface__` (or, on a CPU,
    `__array_interface__`) -> uint8 [n, size, size, 3] there. On a GPU the images must live until the current stream has
    come so far."""
    if not images:
        return torch.empty((0, size, size, 3), dtype=torch.uint8, device=device)
    if device.type == "cuda" and _has_triton():
        return launch(images, size, config, device)
    return torch.stack([resize_and_crop(as_tensor(image, device), size, config) for image in images])


def as_tensor(image: Any, device: torch.device) -> Tensor:
    """The same memory, on the device where the image lies."""
    return torch.as_tensor(np.array(image, copy=None) if device.type == "cpu" else image, device=device)


def _has_triton() -> bool:
    try:
        import triton  # noqa: F401
    except ImportError:
        return False
    return True


def launch(images: Sequence[Any], size: int, config: PreprocessConfig, device: torch.device) -> Tensor:
    """By the kernels of `gpu_kernels`."""
    from . import gpu_kernels

    interfaces = [_interface(image) for image in images]
    addresses = np.array([interface["data"][0] for interface in interfaces], np.int64)
    heights, widths = np.array([interface["shape"][:2] for interface in interfaces], np.int64).T
    squares = torch.empty((len(images), size, size, 3), dtype=torch.uint8, device=device)
    gpu_kernels.resample(addresses, widths, heights, Plans.of(widths, heights, size, config), squares)
    return squares


def _interface(image: Any) -> Interface:
    interface: Interface = getattr(image, "__cuda_array_interface__", None) or image.__array_interface__
    if interface.get("strides") is not None:
        raise ValueError("an image that is not contiguous")
    return interface
