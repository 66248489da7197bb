"""Why a file did not decode, in words that are the same for the same file and can be counted."""

from __future__ import annotations

import re

_TRUNCATED = re.compile("truncated|EOF|end of file|requires a buffer of|Expected to read", re.IGNORECASE)


def reason(name: str, data: bytes, error: Exception) -> str:
    """name: of the file's type; error: what Pillow or a plug-in raised."""
    truncated = _TRUNCATED.search(str(error)) is not None or _ends_early(name, data)
    return f"{'truncated' if truncated else 'broken'} {name}"


def _ends_early(name: str, data: bytes) -> bool:
    """Whether a file that did not decode lacks its end. Plug-ins word this in many ways, or not at all."""
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
    if name in ("AVIF", "HEIC", "JPEG2000") or (name == "JPEG XL" and data.startswith(b"\0")):
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
