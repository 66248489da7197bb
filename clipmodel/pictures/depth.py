"""Pictures of more than 8 bits a value -> 8 bits, or a refusal."""

from __future__ import annotations

import numpy as np
from PIL import Image

from ..errors import ImageError

_OF_16_BITS = ("PPM", "PNG")  # whose pictures Pillow opens as of 32 bits, in its mode I, though they have 16


def check_depth(image: Image.Image) -> None:
    """ImageError for float and 32-bit pixels: nothing tells which of their values are black and white."""
    if image.mode.startswith("F"):
        raise ImageError("float pixels are not supported", image.size)
    if image.mode == "I" and image.format not in _OF_16_BITS:
        raise ImageError("32-bit pixels are not supported", image.size)


def with_8_bits(image: Image.Image, bits: int = 16, inverted: bool = False) -> Image.Image:
    """A grey picture of 16 bits loses the lower ones, as Pillow has it for colours; others are left alone.

    Pillow alone would make all above 255 white. bits: that its values make use of; inverted: zero is white.
    """
    if not image.mode.startswith("I"):
        return image
    values = (np.asarray(image) >> (bits - 8)).astype(np.uint8)
    return Image.fromarray(255 - values if inverted else values)
