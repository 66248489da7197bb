"""How many images a forward pass has room for on a GPU."""

from __future__ import annotations

from collections.abc import Callable

import torch

_SMALL, _LARGE = 8, 32  # images a pass, measured
_SHARE = 0.5  # of the free memory: others may start on the same GPU, and fragments are lost


def images_that_fit(peak: Callable[[int], int], free: int, most: int = 512) -> int:
    """peak: bytes that a pass over so many images takes, of `free` ones. A power of two up to `most`, from which on no
    GPU of today is faster for more."""
    small, large = peak(_SMALL), peak(_LARGE)
    image = max((large - small) / (_LARGE - _SMALL), 1.0)
    fixed = max(small - _SMALL * image, 0.0)
    images = 1
    while images < most and fixed + 2 * images * image <= _SHARE * free:
        images *= 2
    return images


def peak_on(device: torch.device, run: Callable[[int], object]) -> Callable[[int], int]:
    """A function for `images_that_fit` that runs passes over so many images."""

    def peak(images: int) -> int:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run(images)
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before

    return peak
