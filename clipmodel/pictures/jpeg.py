"""A JPEG's segments: those that make pixels, its scans, its EXIF."""

from __future__ import annotations

import re

from ..errors import ImageError
from .header import Header
from .limits import MAX_SCANNED_PIXELS, MAX_SCANS, MAX_SEGMENTS, check_pixels

_MARKER = re.compile(rb"\xff([\x01-\xfe])")  # no `+`: a long run of \xff would be read once for each of its bytes
_BETWEEN_SCANS = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")  # without restarts
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_WITHOUT_LENGTH = frozenset(range(0xD0, 0xDA))
_NOT_FOR_PIXELS = (frozenset(range(0xE1, 0xF0)) - {0xEE}) | {0xFE}  # APP0 and APP14 tell what the colours mean
_EXIF = b"Exif\0\0"
_KEPT = 200  # segments that make pixels, before the first scan; cameras write 10


def read_jpeg(data: bytes) -> Header:
    """Without comments and applications' segments, which may be many and large; Pillow holds and parses each."""
    kept, exif, frame, at = [data[:2]], b"", None, 2
    for _ in range(MAX_SEGMENTS):
        marker = _MARKER.search(data, at)
        if not marker or len(kept) > _KEPT:
            break
        code, begin = marker[1][0], marker.end() - 2
        length = 0 if code in _WITHOUT_LENGTH else max(int.from_bytes(data[begin + 2 : begin + 4], "big"), 2)
        end = begin + 2 + length
        if code < 0xC0 or end > len(data):
            return Header(b"".join((*kept, data[begin : begin + 70_000])), exif=exif)  # Pillow says what is wrong
        if code == 0xDA:
            extra = _check_work(data, end, frame, data[begin + 4]) if frame else 0
            return Header(b"".join((*kept, memoryview(data)[begin:])), extra_bytes=extra, exif=exif)
        if code == 0xE1 and data.startswith(_EXIF, begin + 4):
            exif = exif or data[begin + 10 : end]
        if code in _FRAMES:
            frame = data[begin:end]
        if code not in _NOT_FOR_PIXELS:
            kept.append(data[begin:end])
        at = end
    else:
        raise ImageError("JPEG of too many segments")
    if len(kept) > _KEPT:
        raise ImageError("JPEG of too many segments")
    return Header(b"".join(kept), exif=exif)


def _check_work(data: bytes, at: int, frame: bytes, in_scan: int) -> int:
    """Bytes of the coefficients that are held until the last scan. `in_scan`: components of the first."""
    components = frame[9] if len(frame) > 9 else 0
    factors = [frame[i] for i in range(11, min(11 + 3 * components, len(frame)), 3)]
    if (frame[1] in (0xC0, 0xC1, 0xC9) and in_scan == components) or not factors:
        return 0
    size = int.from_bytes(frame[7:9], "big"), int.from_bytes(frame[5:7], "big")
    check_pixels(size)
    scans = 1 + data.count(b"\xff\xda", at)
    if _too_many(scans, size):  # the count may be of what is no scan: of a thumbnail's, or of what follows the end
        scans = _count_scans(data, at)
    if _too_many(scans, size):
        raise ImageError("JPEG of too many scans", size)
    widest, tallest = max(max(f >> 4 for f in factors), 1), max(max(f & 15 for f in factors), 1)
    values = sum((f >> 4) * (f & 15) for f in factors) / (widest * tallest)
    return int(2 * values * (size[0] + 64) * (size[1] + 64))


def _too_many(scans: int, size: tuple[int, int]) -> bool:
    return scans > MAX_SCANS or scans * size[0] * size[1] > MAX_SCANNED_PIXELS


def _count_scans(data: bytes, at: int) -> int:
    """The scans up to the end of the image; past the limit, any number past it."""
    scans = 1
    for _ in range(MAX_SEGMENTS):
        marker = _BETWEEN_SCANS.search(data, at)
        if not marker or marker[1] == b"\xd9":
            return scans
        scans += marker[1] == b"\xda"
        at = marker.end()
        if marker[1][0] >= 0xC0 and marker[1][0] not in _WITHOUT_LENGTH:
            at += int.from_bytes(data[at : at + 2], "big")
    return MAX_SCANS + 1
