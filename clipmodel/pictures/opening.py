"""Bytes -> a Pillow picture, its header read and its pixels not yet, with room reserved for them."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module

from PIL import Image, features
from PIL.JpegImagePlugin import JpegImageFile

from ..errors import ImageError
from . import plain, sizes
from .depth import check_depth, with_8_bits
from .failures import reason
from .gif import read_gif
from .header import Header
from .jpeg import read_jpeg
from .kinds import Kind, kind_of
from .limits import WHILE_DECODING, check_bytes, check_pixels, memory, picture_bytes
from .orientation import orientation
from .png import read_png
from .tiff import read_tiff

# What is looked at before Pillow sees a file, by the name of its type. Others' plug-ins take a header of fixed length.
_READERS: dict[str, Callable[[bytes], Header]] = {
    "JPEG": read_jpeg,
    "PNG": read_png,
    "GIF": read_gif,
    "TIFF": read_tiff,
    "WEBP": sizes.read_webp,
    "JPEG XL": sizes.read_jpeg_xl,
    "JPEG2000": sizes.read_jpeg_2000,
    "ICO": sizes.read_icons,
    "ICNS": sizes.read_icons,
    "PPM": plain.read_pnm,
    "BMP": plain.read_bmp,
    "DIB": plain.read_bmp,
    "QOI": plain.read_qoi,
    "MSP": plain.read_msp,
    "BLP": plain.read_blp,
    "DDS": plain.read_dds,
    "PSD": plain.read_psd,
    "IM": plain.read_im,
}
_PLUGGED = {"HEIF": ("pillow_heif", "HeifImageFile"), "JXL": ("pillow_jxl.JpegXLImagePlugin", "JXLImageFile")}
_BUILT_INTO_PILLOW = {"WEBP": "webp", "AVIF": "avif", "JPEG2000": "jpg_2000"}  # or not: its names of them
_TURNED_BY_THEMSELVES = ("TIFF", "HEIC", "JPEG XL")  # their plug-ins return the picture upright
_SILENCE = ("ignore", None, Warning, re.compile(r"PIL\."), 0)

ResizingBytes = Callable[[tuple[int, int], str, bool], int]  # of (size, mode, whether it has a transparent colour)


@dataclass(frozen=True)
class Picture:
    image: Image.Image
    header: Header
    orientation: int  # 1 to 8, as EXIF numbers them

    def loaded(self) -> Image.Image:
        """Its pixels, of 8 bits a value."""
        self.image.load()
        return with_8_bits(self.image, self.header.bits, self.header.inverted)


@contextmanager
def opened(data: bytes, resizing_bytes: ResizingBytes = lambda *_: 0) -> Iterator[Picture]:
    """ImageError for what is no picture, or one over a limit; whatever Pillow raises inside becomes one, too.

    Pillow's plug-ins are called directly: `Image.open` judges size by a process-wide setting, and loses which plug-in
    recognised the file and why it then gave up.
    """
    kind, factory = _recognised(data)
    size = None
    try:
        header = _READERS.get(kind.name, Header)(data)
        with ExitStack() as stack:
            if header.size:  # its plug-in may decode as it opens
                size = header.size
                stack.enter_context(_room(kind, header, size, header.mode, resizing_bytes(size, header.mode, False)))
            image = factory(io.BytesIO(header.data), "")
            size = _checked_size(image.size, header)
            check_depth(image)
            if not header.size:
                more = resizing_bytes(size, image.mode, "transparency" in image.info)
                stack.enter_context(_room(kind, header, size, image.mode, more))
            yield Picture(image, header, _orientation(kind, header, image))
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError("image too large for memory", size) from error
    except Exception as error:  # OSError, SyntaxError, ValueError, struct.error, …
        text = "not an image" if size is None and not kind.sure else reason(kind.name, data, error)
        raise ImageError(text, size) from error


def _recognised(data: bytes) -> tuple[Kind, Callable[..., Image.Image]]:
    if not data:
        raise ImageError("empty file")
    kind = kind_of(data)
    if kind is None:
        raise ImageError("not an image")
    factory = _plugin(kind.plugin) if kind.plugin else None
    if factory is None:
        raise ImageError(kind.refusal)
    silence_pillow()
    return kind, factory


@cache
def _plugin(name: str) -> Callable[..., Image.Image] | None:
    """What makes a picture of a file of bytes; None where it is not installed, or Pillow was built without it."""
    if name == "JPEG":  # the factory that Pillow registers looks for further pictures behind the first
        return JpegImageFile
    try:
        if name in _PLUGGED:
            module, factory = _PLUGGED[name]
            plugin: Callable[..., Image.Image] = getattr(import_module(module), factory)
            return plugin
        Image.init()
        factory_of_pillow = Image.OPEN[name][0]
    except (ImportError, AttributeError, KeyError):
        return None
    lacking = name in _BUILT_INTO_PILLOW and not features.check(_BUILT_INTO_PILLOW[name])
    return None if lacking else factory_of_pillow


def _checked_size(size: tuple[int, int], header: Header) -> tuple[int, int]:
    check_pixels(size)
    if header.size and size[0] * size[1] > header.size[0] * header.size[1]:
        raise ValueError("larger than its header says")
    return size


@contextmanager
def _room(kind: Kind, header: Header, size: tuple[int, int], mode: str, resizing: int) -> Iterator[None]:
    check_pixels(size)
    decoding = WHILE_DECODING.get(kind.name, 0) * size[0] * size[1] + header.extra_bytes
    needed = picture_bytes(size, mode) + decoding + resizing
    check_bytes(needed, size)
    with memory.reserved(needed):
        yield


def _orientation(kind: Kind, header: Header, image: Image.Image) -> int:
    if kind.name in _TURNED_BY_THEMSELVES:
        return 1
    return orientation(header.exif or image.info.get("exif") or b"")


def silence_pillow() -> None:
    """Ignore Pillow's warnings, of which a web crawl has one in a few images.

    `warnings.catch_warnings` swaps a process-wide list and is not for threads. Checked each time, because others
    do use it and put back a list without our line.
    """
    if _SILENCE not in warnings.filters:
        warnings.filterwarnings("ignore", module=r"PIL\.")
