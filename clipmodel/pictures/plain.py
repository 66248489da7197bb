"""Formats whose headers are text, or that Pillow decodes in Python: what could keep it busy for minutes is refused."""

from __future__ import annotations

import re

from ..errors import ImageError
from .header import Header
from .limits import check_pixels, check_slow_pixels

_MAX_HEADER = 1 << 16
_MAX_COMMENTS = 10_000  # Pillow copies a block of the file for each
_BLANKS = rb"(?:[ \t\n\v\f\r]|#[^\r\n]*[\r\n])+"
_PNM = re.compile(
    rb"(P\w{1,6})" + rb"".join(_BLANKS + rb"(\d{1,10})" for _ in range(2)) + rb"(?:" + _BLANKS + rb"(\d{1,10}))?"
)
_COMMENT = re.compile(rb"#[^\r\n]*")


def read_pnm(data: bytes) -> Header:
    """Pillow reads the header a byte at a time, and text values, or values to scale, in Python."""
    header = _PNM.match(data[:_MAX_HEADER])
    if not header:
        raise ImageError("truncated PPM" if len(data) < _MAX_HEADER else "broken PPM")
    magic, size = header[1], (int(header[2]), int(header[3]))
    check_pixels(size)
    if magic in (b"P1", b"P2", b"P3"):
        check_slow_pixels("PPM", size, len(data), 24)
        if data.count(b"#") > _MAX_COMMENTS:
            raise ImageError("broken PPM", size)
        data = data[: header.end()] + _COMMENT.sub(b"", data[header.end() :])
    elif magic in (b"P5", b"P6") and int(header[4] or 0) not in (255, 65535 if magic == b"P5" else 255):
        check_slow_pixels("PPM", size, 0, 1)
    return Header(data, size)


def read_bmp(data: bytes) -> Header:
    begin = 14 if data.startswith(b"BM") else 0
    size = int.from_bytes(data[begin + 4 : begin + 8], "little"), abs(_signed(data, begin + 8))
    if data[begin : begin + 4] != b"\x0c\0\0\0" and data[begin + 16 : begin + 20] in (b"\1\0\0\0", b"\2\0\0\0"):
        check_pixels(size)
        check_slow_pixels("BMP", size, len(data), 4)  # run lengths
    return Header(data)


def read_qoi(data: bytes) -> Header:
    return _slow("QOI", data, 4, 8, "big")


def read_msp(data: bytes) -> Header:
    size = int.from_bytes(data[4:6], "little"), int.from_bytes(data[6:8], "little")
    check_pixels(size)
    check_slow_pixels("MSP", size, len(data), 2)
    return Header(data, size)


def read_blp(data: bytes) -> Header:
    if data.startswith(b"BLP1") and data[4:8] == b"\0\0\0\0":
        raise ImageError("BLP of a JPEG is not supported")  # whose size no header tells
    return _slow("BLP", data, 12, 16, "little")


def read_dds(data: bytes) -> Header:
    """Four letters name a compression, which is decoded in C; other values are masked in Python."""
    if data[80:81] and not data[80] & 4:
        return _slow("DDS", data, 16, 12, "little")
    return Header(data)


def read_psd(data: bytes) -> Header:
    """Without resources and layers: the picture that is the sum of the layers follows them."""
    colours = 30 + int.from_bytes(data[26:30], "big")
    resources = colours + 4 + int.from_bytes(data[colours : colours + 4], "big")
    layers = resources + 4 + int.from_bytes(data[resources : resources + 4], "big")
    if layers > len(data):
        raise ImageError("truncated PSD")
    return Header(data[:colours] + bytes(8) + data[layers:])


def read_im(data: bytes) -> Header:
    if b"\x1a" not in data[:4096]:
        raise ImageError("broken IM")
    return Header(data)


def _slow(name: str, data: bytes, width: int, height: int, order: str) -> Header:
    size = int.from_bytes(data[width : width + 4], order), int.from_bytes(data[height : height + 4], order)  # type: ignore[arg-type]
    check_pixels(size)
    check_slow_pixels(name, size, len(data), 16)
    return Header(data, size)


def _signed(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "little", signed=True)
