"""A GIF up to its first picture, without comments and applications' blocks, which Pillow reads a block at a time."""

from __future__ import annotations

from ..errors import ImageError
from .header import Header
from .limits import MAX_CHUNKS

_EXTENSION, _GRAPHIC_CONTROL = 0x21, 0xF9


def read_gif(data: bytes) -> Header:
    at = 13 + (3 << (data[10] & 7) + 1 if len(data) > 10 and data[10] & 128 else 0)
    kept, blocks = [data[:at]], 0
    while at + 2 < len(data) and data[at] == _EXTENSION:
        begin, code = at, data[at + 1]
        at += 2
        while at < len(data) and data[at] and blocks < MAX_CHUNKS:
            at += 1 + data[at]
            blocks += 1
        at += 1
        blocks += 1
        if code == _GRAPHIC_CONTROL:
            kept.append(data[begin:at])
        if blocks >= MAX_CHUNKS:
            raise ImageError("GIF of too many blocks")
    return Header(b"".join((*kept, memoryview(data)[at:])))
