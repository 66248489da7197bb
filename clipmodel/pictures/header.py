"""What is known of a picture before Pillow sees it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Header:
    data: bytes  # for Pillow: the file, or only those parts of it that make pixels
    size: tuple[int, int] | None = None  # (width, height), where Pillow's plug-in would decode before telling it
    mode: str = "RGBA"  # Pillow's, beside a size that is told
    extra_bytes: int = 0  # held while decoding, beside the picture and what its format takes a pixel
    exif: bytes = b""
    bits: int = 16  # that a value of a 16-bit picture makes use of
    inverted: bool = False  # a 16-bit picture's zero is white
