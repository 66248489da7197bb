"""A TIFF's tags, and libtiff kept quiet."""

from __future__ import annotations

import ctypes
import struct
from functools import cache

from PIL import Image

from ..errors import ImageError
from .header import Header
from .limits import MAX_CHUNKS, MAX_SCANS, picture_bytes
from .orientation import ORIENTATION

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_STRIPS, _SAMPLES, _ROWS_A_STRIP, _TILE_WIDTH, _TILE_HEIGHT, _TILES, _SAMPLE_FORMAT = 273, 277, 278, 322, 323, 324, 339
_TYPES = {1: "B", 3: "H", 4: "L", 6: "b", 8: "h", 9: "l", 16: "Q", 17: "q"}  # of the tags looked at
_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_JPEG = 7
_MAX_VALUES = 6  # a pixel; Pillow has no mode for more, and logs an error
_SIGNED, _FLOAT = 2, 3


def read_tiff(data: bytes) -> Header:
    """Refuses values of over 16 bits, signed ones and floats, tags that overlap, and more strips than any image has."""
    silence_libtiff()
    tags = _tags(data)
    size = _one(tags, _WIDTH, 0), _one(tags, _HEIGHT, 0)
    bits, form = _one(tags, _BITS, 1), _one(tags, _SAMPLE_FORMAT, 1)
    if form == _FLOAT:
        raise ImageError("float pixels are not supported", size)
    if 16 < bits <= 64:
        raise ImageError(f"{bits}-bit pixels are not supported", size)
    if form == _SIGNED:
        raise ImageError("signed pixels are not supported", size)
    values = max(_one(tags, _SAMPLES, 1), 1)
    if values > _MAX_VALUES:
        raise ImageError(f"TIFF of over {_MAX_VALUES} values a pixel is not supported", size)
    parts = max(tags.get(_STRIPS, (0, ()))[0], tags.get(_TILES, (0, ()))[0])
    if parts > MAX_CHUNKS:
        raise ImageError("TIFF of too many strips", size)
    if _one(tags, _COMPRESSION, 1) == _JPEG and data.count(b"\xff\xda") > MAX_SCANS + 10 * parts:
        raise ImageError("TIFF of too many scans", size)
    width = _one(tags, _TILE_WIDTH, size[0])
    height = _one(tags, _TILE_HEIGHT, min(_one(tags, _ROWS_A_STRIP, size[1]), size[1]))
    strip = width * height * max(values * bits / 8, 4 if _one(tags, _PHOTOMETRIC, 0) == 6 else 0)
    compressed = _one(tags, _COMPRESSION, 1) != 1
    turned = _one(tags, ORIENTATION, 1) > 1  # by Pillow, once it is loaded
    return Header(
        data,
        extra_bytes=(int(strip) if compressed else 0) + (picture_bytes(size, "RGB") if turned else 0),
        bits=min(max(bits, 8), 16),
        inverted=bits == 16 and _one(tags, _PHOTOMETRIC, 0) == 0,
    )


_Tags = dict[int, tuple[int, tuple[int, ...]]]  # tag -> (count, the first values)


def _tags(data: bytes) -> _Tags:
    """The whole numbers of the first directory; of one that is damaged, those before the damage."""
    order = "<" if data[:1] == b"I" else ">"
    big = 0x2B in data[2:4]
    tags: _Tags = {}
    held = 0
    step = 20 if big else 12
    try:
        (begin,) = struct.unpack_from(order + ("Q" if big else "L"), data, 8 if big else 4)
        (count,) = struct.unpack_from(order + ("Q" if big else "H"), data, begin)
        begin += 8 if big else 2
        for entry in range(begin, begin + min(count, 0xFFFF) * step, step):
            tag, kind, values = struct.unpack_from(order + ("HHQ" if big else "HHL"), data, entry)
            at = entry + (12 if big else 8)
            length = values * _BYTES.get(kind, 0)
            if length > step - (12 if big else 8):
                (at,) = struct.unpack_from(order + ("Q" if big else "L"), data, at)
                held += length if at + length <= len(data) else 0
            if held > len(data) + (1 << 16):
                raise ImageError("broken TIFF")  # its tags overlap: Pillow would hold the same bytes many times
            if kind in _TYPES and tag not in tags and values:
                tags[tag] = values, struct.unpack_from(f"{order}{min(values, 4)}{_TYPES[kind]}", data, at)
    except (struct.error, OverflowError):
        pass
    return tags


def _one(tags: _Tags, tag: int, default: int) -> int:
    return max(tags[tag][1][0], 0) if tag in tags else default


@cache
def silence_libtiff() -> None:
    """libtiff prints what it thinks of a file to the process's stderr, and Pillow has no setting for it.

    Asking libtiff itself is safe beside other threads: a handler is one pointer. Symbols are looked up in Pillow's own
    module, so they are found in the library that it was linked with, wherever that lies.
    """
    try:
        library = ctypes.CDLL(Image.core.__file__)
        for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
            setter = getattr(library, name)
            setter.argtypes, setter.restype = [ctypes.c_void_p], ctypes.c_void_p
            setter(None)
    except (AttributeError, OSError):  # a Pillow without libtiff, or with one whose names are hidden
        pass
