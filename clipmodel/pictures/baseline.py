"""Which JPEGs a GPU's engines decode to the pixels of libjpeg-turbo: told from the file's structure, not decoded."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from .limits import MAX_SEGMENTS

_SOI, _EXIF = b"\xff\xd8", b"Exif\0\0"
_BASELINE, _QUANTISATION, _HUFFMAN, _RESTARTS, _COMMENT, _SCAN = 0xC0, 0xDB, 0xC4, 0xDD, 0xFE, 0xDA
_JFIF, _APP1, _ADOBE = 0xE0, 0xE1, 0xEE
_QUANTISER = 0x100  # added to a table's number, to tell it from those of codes
_CODES = frozenset((0, 1, 2, 3, 0x10, 0x11, 0x12, 0x13))  # for the first coefficient of a block, and for the others
_USUAL = frozenset((_BASELINE, _QUANTISATION, _HUFFMAN, _RESTARTS, _COMMENT, _SCAN, *range(0xE0, 0xF0)))
_MOST_SEGMENTS = min(64, MAX_SEGMENTS)  # before the scan; cameras write 10
_MOST_PIXELS = 1 << 25  # four bytes each are well under the CPU's limits, so that none of these would be refused there
_MOST_SIDE = 16_384
_MARK = re.compile(rb"\xff[^\0\xd0-\xd7]", re.DOTALL)  # one pass over the file, three times as fast as counting bytes
_SAMPLING = {b"\x22\x11\x11", b"\x21\x11\x11", b"\x11\x11\x11"}  # 4:2:0, 4:2:2, 4:4:4: of Y, Cb, Cr


class Baseline(NamedTuple):
    width: int
    height: int
    exif: bytes


def baseline(data: bytes) -> Baseline | None:
    """Of a JPEG of one baseline scan, 8 bits, grey or YCbCr of usual sampling, which ends as it should; None for any
    other file, and for whatever looks odd: that is the CPU's to judge."""
    if data[:2] != _SOI:
        return None
    at, exif, frame, jfif, adobe = 2, b"", b"", False, -1
    tables: set[int] = set()
    for _ in range(_MOST_SEGMENTS):
        if data[at : at + 1] != b"\xff" or at + 4 > len(data):
            return None
        code, end = data[at + 1], at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if end > len(data) or end < at + 4 or code not in _USUAL:
            return None
        if code == _SCAN:
            fits = bool(frame) and _scan_fits(data[at:end], frame, tables)
            return _checked(data, end, frame, exif, jfif, adobe) if fits else None
        if code in _TABLES:
            defined = _TABLES[code](data[at + 4 : end])
            if not defined:
                return None
            tables |= defined
        elif code == _BASELINE:
            if frame:
                return None
            frame = data[at:end]
        elif code == _JFIF:
            jfif = jfif or data[at + 4 : at + 8] == b"JFIF"
        elif code == _APP1:
            exif = exif or (data[at + 4 : end] if data.startswith(_EXIF, at + 4) else b"")
        elif code == _ADOBE and data.startswith(b"Adobe", at + 4) and end - at >= 16:
            adobe = data[at + 15]
        at = end
    return None


def _scan_fits(scan: bytes, frame: bytes, tables: set[int]) -> bool:
    """Whether the one scan holds all components, whole, and their tables are there."""
    components = frame[9] if len(frame) > 9 else 0
    usual = len(frame) == 10 + 3 * components and len(scan) == 8 + 2 * components and scan[4] == components
    if not usual or scan[5 : 5 + 2 * components : 2] != frame[10::3] or scan[-3:] != b"\0\x3f\0":
        return False
    needed = {_QUANTISER | number for number in frame[12::3]}
    for number in scan[6 : 6 + 2 * components : 2]:
        needed |= {number >> 4, 0x10 | number & 15}
    return needed <= tables


@lru_cache(maxsize=1024)  # most files have the same ones
def _quantisers(segment: bytes) -> frozenset[int]:
    """The tables that a segment defines; none where it is broken."""
    numbers = segment[::65]
    whole = len(segment) % 65 == 0 and all(number < 4 for number in numbers)
    return frozenset(_QUANTISER | number for number in numbers) if whole else frozenset()


@lru_cache(maxsize=1024)
def _huffman_tables(segment: bytes) -> frozenset[int]:
    """The same of codes, which must be a tree."""
    numbers, at = set(), 0
    while at < len(segment):
        number, counts = segment[at], segment[at + 1 : at + 17]
        symbols = segment[at + 17 : at + 17 + sum(counts)]
        if number not in _CODES or len(counts) < 16 or not 0 < len(symbols) == sum(counts) <= 256:
            return frozenset()
        code = 0
        for length, count in enumerate(counts, start=1):
            code += count
            if code > 1 << length:
                return frozenset()
            code <<= 1
        if number < 0x10 and max(symbols) > 15:
            return frozenset()
        numbers.add(number)
        at += 17 + len(symbols)
    return frozenset(numbers)


_TABLES = {_QUANTISATION: _quantisers, _HUFFMAN: _huffman_tables}


def _checked(data: bytes, at: int, frame: bytes, exif: bytes, jfif: bool, adobe: int) -> Baseline | None:
    height, width = int.from_bytes(frame[5:7], "big"), int.from_bytes(frame[7:9], "big")
    if frame[4] != 8 or not 0 < width <= _MOST_SIDE or not 0 < height <= _MOST_SIDE or width * height > _MOST_PIXELS:
        return None
    if len(frame) == 13:
        colours = True
    else:
        in_ycbcr = adobe == 1 or (adobe < 0 and (jfif or frame[10::3] == b"\1\2\3"))
        colours = len(frame) == 19 and frame[11::3] in _SAMPLING and in_ycbcr
    return Baseline(width, height, exif) if colours and _ends_well(data, at) else None


def _ends_well(data: bytes, at: int) -> bool:
    """Whether nothing but coded data and restarts lies between the scan's header and the end of the image."""
    mark = _MARK.search(data, at)
    return mark is not None and mark[0] == b"\xff\xd9"
