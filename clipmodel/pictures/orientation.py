"""EXIF orientation: which way up a picture was taken."""

from __future__ import annotations

import struct

from PIL import Image

ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def orientation(exif: bytes) -> int:
    """1 to 8, from an EXIF block with or without its `Exif` mark; 1, upright, where none is told.

    Read here and not by Pillow, which reads each of a block's tags, however many and large.
    """
    block = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    if not order:
        return 1
    try:
        (directory,) = struct.unpack_from(order + "L", block, 4)
        (count,) = struct.unpack_from(order + "H", block, directory)
        for at in range(directory + 2, directory + 2 + 12 * count, 12):
            tag, _, _, value = struct.unpack_from(order + "HHLH", block, at)
            if tag == ORIENTATION:
                return value if value in _TURNS else 1
    except struct.error:
        pass
    return 1


def turned(image: Image.Image, way: int) -> Image.Image:
    return image.transpose(_TURNS[way]) if way in _TURNS else image
