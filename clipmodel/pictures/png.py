"""A PNG's chunks: those that make pixels, and its EXIF."""

from __future__ import annotations

from ..errors import ImageError
from .header import Header
from .limits import MAX_CHUNKS

_NOT_FOR_PIXELS = frozenset((b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"eXIf"))


def read_png(data: bytes) -> Header:
    """Without texts and colour profiles: Pillow unpacks them, and refuses a picture that has over 64 MiB of them."""
    view, kept, exif, at, begin = memoryview(data), [], b"", 8, 0
    for _ in range(MAX_CHUNKS):
        kind = data[at + 4 : at + 8]
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if len(kind) < 4 or end > len(data) or kind == b"IEND":
            break
        if kind in _NOT_FOR_PIXELS:
            kept.append(view[begin:at])
            begin = end
            if kind == b"eXIf":
                exif = exif or data[at + 8 : end - 4]
        at = end
    else:
        raise ImageError("PNG of too many chunks")
    return Header(b"".join((*kept, view[begin:])) if kept else data, exif=exif)
