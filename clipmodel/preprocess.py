"""Encoded image -> uint8 pixels, to the last pixel as the reference CLIP preprocessing makes them; and normalisation.

The reference is torchvision's `Resize(size, bicubic)`, `CenterCrop(size)`, `convert("RGB")` on Pillow images, in that
order: an image is resized in its own mode, so Pillow takes the nearest pixel of a palette or 1-bit image. EXIF
orientation is ignored, as there, unless `turn` is set (Pillow turns TIFFs by itself, and HEIC and JPEG XL files are
turned by what decodes them); the first frame is the image. `pictures/` opens files, and refuses those that are no
images or would take too much.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from .close import close_square
from .config import Decoding, PreprocessConfig
from .errors import ImageError
from .exact_resize import fits
from .pictures.baseline import baseline
from .pictures.depth import check_depth, with_8_bits
from .pictures.failures import reason
from .pictures.limits import MAX_PIXELS, check_pixels, picture_bytes
from .pictures.opening import opened, silence_pillow
from .pictures.orientation import ORIENTATION, orientation, turned
from .resizing import MAX_RESIZED, scale_down, square

__all__ = ["MAX_PIXELS", "Pixels", "Preprocess", "normalise"]

MOST_ELONGATED = 32  # times as long as wide: longer images are resized in part only, see `resizing._band`
MAX_RESIZED_BY_GPU = 700  # pixels a side: with the line above, no image is resized in part

Pixels = npt.NDArray[np.uint8]  # [size, size, 3]


@dataclass(frozen=True)
class Preprocess:
    """Images to the encoder's input size. Thread-safe; decoding and resizing release the interpreter lock.

    decoding: `exact` is the reference, to the last bit. `close` differs from it by 1 of 255 in under 1 % of the values
    (close.py). `fast` decodes large JPEGs at a fraction of their size.
    """

    size: int  # the encoder's, pixels
    config: PreprocessConfig = field(default_factory=PreprocessConfig)
    decoding: Decoding = "exact"
    turn: bool = False  # the way EXIF says; the reference ignores it

    def __call__(self, image: bytes | Image.Image) -> Pixels:
        """uint8 [size, size, 3]; ImageError when there is no image in those bytes."""
        return self.with_size(image)[0]

    def with_size(self, image: bytes | Image.Image) -> tuple[Pixels, tuple[int, int]]:
        """The pixels, and the image's own (width, height), of the turned image where `turn` is set."""
        if isinstance(image, Image.Image):
            return self._from_picture(image)
        with opened(image, self._resizing_bytes) as picture:
            source = picture.image
            way = picture.orientation if self.turn else 1
            size = source.size
            if self.decoding == "close" and way == 1:
                near = close_square(picture, self.size, self.config)
                if near is not None:
                    return near, size
            box = scale_down(source, self.size, self.config) if self.decoding == "fast" and way == 1 else None
            pixels = turned(picture.loaded(), way)
            # a copy that torch may write to
            return np.array(square(pixels, self.size, self.config, box)), size if box else pixels.size

    @property
    def fits_engines(self) -> bool:
        """Whether a GPU's JPEG engines and `gpu_resize` can do the same steps as closely as `close` does."""
        return self.decoding == "close" and fits(self.size, self.config) and self._resized <= MAX_RESIZED_BY_GPU

    def size_for_engines(self, image: bytes) -> tuple[int, int] | None:
        """The (width, height) of an image that a GPU's JPEG engines decode as a CPU does; None for others. Nothing is
        decoded for it."""
        jpeg = baseline(image)
        if jpeg is None or max(jpeg.width, jpeg.height) > MOST_ELONGATED * min(jpeg.width, jpeg.height):
            return None
        if self.turn and orientation(jpeg.exif) != 1:
            return None
        return jpeg.width, jpeg.height

    @property
    def _resized(self) -> int:
        return self.config.resize_to or self.size

    def _from_picture(self, image: Image.Image) -> tuple[Pixels, tuple[int, int]]:
        silence_pillow()
        check_pixels(image.size)
        check_depth(image)
        try:
            image.load()
            upright = turned(with_8_bits(image), image.getexif().get(ORIENTATION, 1) if self.turn else 1)
            return np.array(square(upright, self.size, self.config)), upright.size
        except ImageError:
            raise
        except MemoryError as error:
            raise ImageError("image too large for memory", image.size) from error
        except Exception as error:
            raise ImageError(reason(image.format or "image", b"", error), image.size) from error

    def _resizing_bytes(self, size: tuple[int, int], mode: str, transparent: bool) -> int:
        """What the steps after decoding hold beside the decoded image."""
        copies = ("A" in mode) + self.turn + 3 * mode.startswith("I")  # alpha is multiplied into the colours first
        needed = copies * picture_bytes(size, mode)
        if self.config.steps == "transformers":  # pictures in RGB, and white behind what is transparent
            needed += (20 if transparent or "A" in mode else 4) * size[0] * size[1]
        return needed + 8 * min(self._resized * max(size), MAX_RESIZED)


def normalise(pixels: torch.Tensor, config: PreprocessConfig, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """uint8 [n, size, size, 3] -> [n, 3, size, size], channels last in memory, on the device the pixels are on.

    (x / 255 - mean) / std in float32, bit for bit what torchvision's ToTensor and Normalize compute, then cast.
    """
    n, height, width, channels = pixels.shape
    mean, std = (_row(tuple(values), width, pixels.device) for values in (config.mean, config.std))
    rows = pixels.reshape(n, height, width * channels).to(torch.float32)  # whole rows: three values at a time are slow
    scaled = rows.div_(255).sub_(mean).div_(std).view(n, height, width, channels)
    return scaled.permute(0, 3, 1, 2).to(dtype)


@lru_cache(maxsize=64)
def _row(values: tuple[float, ...], width: int, device: torch.device) -> torch.Tensor:
    """Of so many pixels: float32 [width * channels]."""
    # Kept, because copying from pageable memory waits for everything queued on a GPU.
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=torch.float32, device=device).repeat(width)
