"""Encoded image -> uint8 pixels, to the last pixel as the reference CLIP preprocessing makes them; and normalisation.

The reference is torchvision's `Resize(size, bicubic)`, `CenterCrop(size)`, `convert("RGB")` on Pillow images, in that
order: an image is resized in its own mode, so Pillow takes the nearest pixel of a palette or 1-bit image. EXIF
orientation is ignored and the first frame is the image, as there.
"""

from __future__ import annotations

import io
import math
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

Pixels = npt.NDArray[np.uint8]  # [size, size, 3]

MAX_PIXELS = 178_956_970  # an image larger than this is taken for a decompression bomb; Pillow's own threshold
MAX_RESIZED = 1 << 24  # pixels; a resized image larger than this is never made whole, see `_middle`

# MPO opens as the JPEG that it begins with. Formats that run programs (EPS) or hold no pixels are left out.
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM")
_BICUBIC = Image.Resampling.BICUBIC
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
        squash = self.config.resize == "squash"
        source = image if isinstance(image, Image.Image) else _open(image)
        size = source.size
        if min(size) < 1:
            raise ImageError("image without pixels", size)
        if size[0] * size[1] > MAX_PIXELS:
            raise ImageError(f"image over the limit of {MAX_PIXELS} pixels ({size[0]}x{size[1]})", size)
        with _image_errors(source.format or "image", image if isinstance(image, bytes) else b"", size):
            box = _scale_down(source, self.size) if self.fast and source is not image else None
            source.load()
            if box:
                square = source.resize((self.size, self.size), _BICUBIC, box if squash else _middle_of(box, self.size))
            else:
                square = _squash(source, self.size) if squash else _shortest(source, self.size)
            return np.array(square.convert("RGB")), size  # a copy that torch may write to


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


# --- resizing --------------------------------------------------------------------------------------------------------


def _squash(image: Image.Image, size: int) -> Image.Image:
    if size * image.height > MAX_PIXELS:  # Pillow resizes rows first, into size x height
        raise ImageError("image too tall to squash", image.size)
    return image.resize((size, size), _BICUBIC)


def _shortest(image: Image.Image, size: int) -> Image.Image:
    """The shorter side becomes `size`, the longer is cut around the middle."""
    width, height = image.size
    short, long = min(width, height), max(width, height)
    resized = int(size * long / short)
    start = round((resized - size) / 2.0)  # ties to even, as there
    if short == size:
        whole = image
    elif size * resized > MAX_RESIZED:
        return _middle(image, size, resized, start)
    else:
        whole = image.resize((resized, size) if width > height else (size, resized), _BICUBIC)
    left, top = (start, 0) if width > height else (0, start)
    return whole.crop((left, top, left + size, top + size))


def _middle(image: Image.Image, size: int, resized: int, start: int) -> Image.Image:
    """`_shortest` for an image so long that its longer side becomes `resized`: only the middle square is computed.

    Close, not equal: Pillow takes a box in 32-bit floats (cropping to whole pixels first keeps them small), and which
    of its two passes goes first, clipping what overshoots, depends on the sizes. That is why photographs do not come
    here, though it would save a fifth of their resizing.
    """
    scale = max(image.size) / resized
    begin, end = start * scale, (start + size) * scale
    support = 2 * max(scale, 1.0)
    first = max(int(begin - support) - 1, 0)
    last = min(int(end + support) + 2, max(image.size))
    if image.width > image.height:
        band = image.crop((first, 0, last, image.height))
        return band.resize((size, size), _BICUBIC, box=(begin - first, 0, end - first, image.height))
    band = image.crop((0, first, image.width, last))
    return band.resize((size, size), _BICUBIC, box=(0, begin - first, image.width, end - first))


# --- fast ------------------------------------------------------------------------------------------------------------


def _scale_down(source: Image.Image, size: int) -> tuple[float, float, float, float] | None:
    """Have a JPEG decoded at a half, quarter or eighth of its size, its shorter side at least twice `size`: fewer terms
    of its cosine transform are computed, and fewer pixels resized.

    Where its pixels will be in the decoded image, whose last row and column may reach beyond them; None for an image
    that is decoded whole.
    """
    before, enough = source.size, 2 * size / min(source.size)
    drafted = source.draft(None, (math.ceil(source.width * enough), math.ceil(source.height * enough)))
    return drafted[1] if drafted and source.size != before else None


def _middle_of(box: tuple[float, float, float, float], size: int) -> tuple[float, float, float, float]:
    """The square that `_shortest` keeps."""
    _, _, width, height = box
    short, long = min(width, height), max(width, height)
    resized = int(size * long / short)
    begin = round((resized - size) / 2.0) * long / resized
    end = begin + size * long / resized
    return (begin, 0, end, height) if width > height else (0, begin, width, end)
