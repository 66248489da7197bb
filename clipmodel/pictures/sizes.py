"""Sizes told by the headers of formats whose plug-ins decode, or reserve memory, before they tell them."""

from __future__ import annotations

from collections.abc import Iterator

from ..errors import ImageError
from .header import Header

_MAX_ICON = 1024  # pixels a side of a picture in an ICO or ICNS
_MAX_ICONS = 1000
_PNG, _CODESTREAM = b"\x89PNG\r\n\x1a\n", b"\xff\x4f\xff\x51"
_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))  # of a JPEG XL: width to height


def read_webp(data: bytes) -> Header:
    chunk = data[12:16]
    if chunk == b"VP8X" and len(data) >= 30:
        size, alpha = (_little(data, 24, 3) + 1, _little(data, 27, 3) + 1), bool(data[20] & 0x10)
    elif chunk == b"VP8 " and data[23:26] == b"\x9d\x01\x2a" and len(data) >= 30:
        size, alpha = (_little(data, 26, 2) & 0x3FFF, _little(data, 28, 2) & 0x3FFF), False
    elif chunk == b"VP8L" and len(data) >= 25:
        bits = _little(data, 21, 4)
        size, alpha = ((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1), bool(bits >> 28 & 1)
    else:
        raise ImageError("truncated WEBP" if len(data) < 30 else "broken WEBP")
    return Header(data, size, "RGBA" if alpha else "RGB")


def read_jpeg_xl(data: bytes) -> Header:
    size = _jpeg_xl_size(data if data.startswith(b"\xff\x0a") else _jpeg_xl_stream(data))
    return Header(data, size)


def _jpeg_xl_stream(data: bytes) -> bytes:
    """The first bytes of the image among the boxes of a container."""
    at = 0
    for _ in range(1000):
        length, kind, begin = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8], at + 8
        if length == 1:
            length, begin = int.from_bytes(data[at + 8 : at + 16], "big"), at + 16
        if kind in (b"jxlc", b"jxlp"):
            begin += 4 if kind == b"jxlp" else 0  # its number
            return data[begin : begin + 32]
        if length < 8 or at + length > len(data):
            break
        at += length
    raise ImageError("broken JPEG XL")


def _jpeg_xl_size(stream: bytes) -> tuple[int, int]:
    if len(stream) < 12 or not stream.startswith(b"\xff\x0a"):
        raise ImageError("truncated JPEG XL" if len(stream) < 12 else "broken JPEG XL")
    bits, at = int.from_bytes(stream[2:32], "little"), 0

    def take(count: int) -> int:
        nonlocal at
        at += count
        return bits >> (at - count) & ((1 << count) - 1)

    small = take(1)

    def side() -> int:
        return 8 * (take(5) + 1) if small else take((9, 13, 18, 30)[take(2)]) + 1

    height = side()
    ratio = take(3)
    if not ratio:
        return side(), height
    wide, tall = _RATIOS[ratio - 1]
    return height * wide // tall, height


def read_jpeg_2000(data: bytes) -> Header:
    """OpenJPEG holds four bytes a value of a tile, and as many again while it works."""
    at = data.find(_CODESTREAM)
    header = data[at + 4 : at + 44]
    if at < 0 or len(header) < 38:
        raise ImageError("truncated JPEG2000")
    right, bottom, left, top, tile_width, tile_height = (
        int.from_bytes(header[i : i + 4], "big") for i in (4, 8, 12, 16, 20, 24)
    )
    size = max(right - left, 0), max(bottom - top, 0)
    components = int.from_bytes(header[36:38], "big")
    tile = min(tile_width, size[0]) * min(tile_height, size[1])
    return Header(data, extra_bytes=int(5.5 * components * tile))


def read_icons(data: bytes) -> Header:
    """An ICO or ICNS, whose plug-ins decode a picture inside, whatever its size, when they open the file."""
    for begin in _occurrences(data, _PNG):
        _check_icon(_big(data, begin + 16), _big(data, begin + 20))
    for begin in _occurrences(data, _CODESTREAM):
        _check_icon(_big(data, begin + 8), _big(data, begin + 12))
    if data.startswith(b"\0\0"):
        for entry in range(6, 6 + 16 * min(_little(data, 4, 2), len(data) // 16), 16):
            begin = _little(data, entry + 12, 4)
            wide = 2 if _little(data, begin, 4) == 12 else 4
            if not data.startswith(_PNG, begin):
                width, height = _signed(data, begin + 4, wide), _signed(data, begin + 4 + wide, wide)
                _check_icon(abs(width), abs(height) // 2)
    return Header(data)


def _check_icon(width: int, height: int) -> None:
    if width > _MAX_ICON or height > _MAX_ICON:
        raise ImageError(f"icon over the limit of {_MAX_ICON}x{_MAX_ICON} pixels")


def _occurrences(data: bytes, mark: bytes) -> Iterator[int]:
    at = -1
    for _ in range(_MAX_ICONS):
        at = data.find(mark, at + 1)
        if at < 0:
            return
        yield at
    raise ImageError("file of too many icons")


def _big(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "big")


def _little(data: bytes, at: int, count: int) -> int:
    return int.from_bytes(data[at : at + count], "little")


def _signed(data: bytes, at: int, count: int) -> int:
    return int.from_bytes(data[at : at + count], "little", signed=True)
