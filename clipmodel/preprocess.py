"""Encoded image -> uint8 pixels, to the last pixel as the reference CLIP preprocessing makes them; and normalisation.

The reference is torchvision's `Resize(size, bicubic)`, `CenterCrop(size)`, `convert("RGB")` on Pillow images, in that
order: an image is resized in its own mode, so Pillow takes the nearest pixel of a palette or 1-bit image. EXIF
orientation is ignored and the first frame is the image, as there.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from .config import PreprocessConfig
from .errors import ImageError
from .resizing import scale_down, square

Pixels = npt.NDArray[np.uint8]  # [size, size, 3]

MAX_PIXELS = 178_956_970  # an image larger than this is taken for a decompression bomb; Pillow's own threshold

# MPO opens as the JPEG that it begins with. Formats that run programs (EPS) or hold no pixels are left out.
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM")
_TRUNCATED = re.compile("truncated|EOF|end of file|requires a buffer of|Expected to read", re.IGNORECASE)
_SILENCE = ("ignore", None, Warning, re.compile(r"PIL\."), 0)


@dataclass(frozen=True)
class Preprocess:
    """Images to the encoder's input size. Thread-safe; decoding and resizing release the interpreter lock."""

    size: int  # the encoder's, pixels
    config: PreprocessConfig = field(default_factory=PreprocessConfig)
    fast: bool = False  # close to the reference, not equal to it: bytes of a large JPEG are not decoded whole

    def __call__(self, image: bytes | Image.Image) -> Pixels:
        """uint8 [size, size, 3]; ImageError when there is no image in those bytes."""
        return self.with_size(image)[0]

    def with_size(self, image: bytes | Image.Image) -> tuple[Pixels, tuple[int, int]]:
        """The pixels, and the image's own (width, height)."""
        _silence_pillow()
        source = image if isinstance(image, Image.Image) else _open(image)
        size = source.size
        if min(size) < 1:
            raise ImageError("image without pixels", size)
        if size[0] * size[1] > MAX_PIXELS:
            raise ImageError(f"image over the limit of {MAX_PIXELS} pixels ({size[0]}x{size[1]})", size)
        with _image_errors(source.format or "image", image if isinstance(image, bytes) else b"", size):
            box = scale_down(source, self.size, self.config) if self.fast and source is not image else None
            source.load()
            # a copy that torch may write to
            return np.array(square(source, self.size, self.config, box)), size


def normalise(pixels: torch.Tensor, config: PreprocessConfig, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """uint8 [n, size, size, 3] -> [n, 3, size, size], channels last in memory, on the device the pixels are on.

    (x / 255 - mean) / std in float32, bit for bit what torchvision's ToTensor and Normalize compute, then cast.
    """
    mean, std = _constants(tuple(config.mean), pixels.device), _constants(tuple(config.std), pixels.device)
    scaled = pixels.permute(0, 3, 1, 2).to(torch.float32).div_(255)
    return scaled.sub_(mean).div_(std).to(dtype)


@lru_cache(maxsize=64)
def _constants(values: tuple[float, ...], device: torch.device) -> torch.Tensor:
    # Kept, because copying from pageable memory waits for everything queued on a GPU.
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=torch.float32, device=device).view(1, -1, 1, 1)


# --- opening ---------------------------------------------------------------------------------------------------------


def _open(data: bytes) -> Image.Image:
    """The image, its header read and its pixels not yet.

    Pillow's plugins are asked directly: `Image.open` judges size by a process-wide setting, and loses which plugin
    recognised the file and why it then gave up.
    """
    if not data:
        raise ImageError("empty file")
    for name, factory, accept in _plugins():
        recognised = accept(data[:16]) if accept else True
        if isinstance(recognised, str):
            raise ImageError(f"{name} is not supported here")
        if recognised:
            with _image_errors(name, data):
                opened: Image.Image = factory(io.BytesIO(data), "")
                return opened
    raise ImageError("not an image")


@cache
def _plugins() -> list[tuple[str, Any, Any]]:
    Image.init()
    return [(name, *Image.OPEN[name]) for name in _FORMATS if name in Image.OPEN]


@contextmanager
def _image_errors(name: str, data: bytes, size: tuple[int, int] | None = None) -> Iterator[None]:
    """Anything Pillow raises on damaged bytes (OSError, SyntaxError, ValueError, struct.error, …) as an ImageError."""
    try:
        yield
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError("image too large for memory", size) from error
    except Exception as error:
        name = "JPEG" if name == "MPO" else name
        truncated = _TRUNCATED.search(str(error)) is not None or _ends_early(name, data)
        raise ImageError(f"{'truncated' if truncated else 'broken'} {name}", size) from error


def _ends_early(name: str, data: bytes) -> bool:
    """Whether a file that did not decode lacks its end. Plugins word this in many ways, or not at all."""
    if name == "JPEG":
        return b"\xff\xd9" not in data[-4096:]  # some cameras and servers append a few bytes
    if name == "PNG":
        return b"IEND" not in data[-4096:]
    if name == "GIF":
        return not data.rstrip(b"\0").endswith(b";")
    if name == "WEBP":
        return int.from_bytes(data[4:8], "little") + 8 > len(data)
    if name == "BMP":
        return int.from_bytes(data[2:6], "little") > len(data)
    if name == "TIFF":
        return int.from_bytes(data[4:8], "little" if data[:1] == b"I" else "big") >= len(data)  # where its tags are
    if name == "JPEG2000" and data.startswith(b"\xff\x4f"):
        return not data.endswith(b"\xff\xd9")
    if name in ("AVIF", "JPEG2000"):
        return _boxes_end(data) > len(data)
    return False


def _boxes_end(data: bytes) -> int:
    """Where the last top-level box of an ISO base media file (AVIF, JP2) says it ends."""
    at = 0
    while at + 8 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        if length == 1:
            length = int.from_bytes(data[at + 8 : at + 16], "big")
        if length < 8:  # 0: up to the end of the file; others are nonsense
            return len(data)
        at += length
    return at if at >= len(data) else len(data) + 1


def _silence_pillow() -> None:
    """Ignore Pillow's warnings, of which a web crawl has one in a few images.

    `warnings.catch_warnings` swaps a process-wide list and is not for threads. Checked each time, because others
    do use it and put back a list without our line.
    """
    if _SILENCE not in warnings.filters:
        warnings.filterwarnings("ignore", module=r"PIL\.")
