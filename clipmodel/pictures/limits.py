"""How much memory and work one picture may take, and how much memory all those that are decoded at once.

Judged from the header, before a pixel is decoded, so the same file always meets the same end. docs/formats.md lists
the limits.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import ImageError

MAX_PIXELS = 178_956_970  # an image larger than this is taken for a decompression bomb; Pillow's own threshold
MAX_BYTES = 512 << 20  # that decoding one picture may take, beyond its file
MAX_BYTES_TOGETHER = 1 << 30  # that a process's threads may take at once; those above it wait for one another
MAX_SLOW_PIXELS = 1 << 21  # of a format that Pillow decodes in Python, at one or two microseconds a pixel
MAX_SCANS = 50  # of a JPEG; encoders make 10 to 20
MAX_SCANNED_PIXELS = 1 << 30  # pixels times scans, of a JPEG
MAX_SEGMENTS = 10_000  # of a JPEG, before its first scan
MAX_CHUNKS = 100_000  # of a PNG, blocks of a GIF, strips or tiles of a TIFF

# Bytes a pixel that a format's decoder holds beside the picture: measured, and rounded up.
WHILE_DECODING = {"WEBP": 14, "AVIF": 13, "HEIC": 8, "JPEG XL": 13, "TGA": 4, "BLP": 8, "QOI": 8, "MSP": 2, "DDS": 8}


def check_pixels(size: tuple[int, int]) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise ImageError("image without pixels", size)
    if width * height > MAX_PIXELS:
        raise ImageError(f"image over the limit of {MAX_PIXELS} pixels ({width}x{height})", size)


def check_slow_pixels(name: str, size: tuple[int, int], file_bytes: int, bytes_a_pixel: int) -> None:
    """For what is decoded in Python: neither its pixels nor its file may be large, the file not even for its pixels."""
    pixels = size[0] * size[1]
    if pixels > MAX_SLOW_PIXELS:
        raise ImageError(f"{name} over the limit of {MAX_SLOW_PIXELS} pixels ({size[0]}x{size[1]})", size)
    if file_bytes > bytes_a_pixel * pixels + (1 << 16):
        raise ImageError(f"broken {name}", size)


def picture_bytes(size: tuple[int, int], mode: str) -> int:
    """What Pillow holds for a picture: rows of whole words, and a pointer to each."""
    values = 1 if mode in ("1", "L", "P") else 2 if mode.startswith("I;16") else 4
    return size[1] * (8 + -(-size[0] * values // 4) * 4)


def check_bytes(needed: int, size: tuple[int, int]) -> None:
    if needed > MAX_BYTES:
        raise ImageError(f"image needs over {MAX_BYTES >> 20} MiB to decode ({size[0]}x{size[1]})", size)


class _Memory:
    """What this process's threads have taken; one waits until its share is free."""

    def __init__(self) -> None:
        self.taken = 0
        self.changed = threading.Condition()

    @contextmanager
    def reserved(self, needed: int) -> Iterator[None]:
        with self.changed:
            self.changed.wait_for(lambda: self.taken == 0 or self.taken + needed <= MAX_BYTES_TOGETHER)
            self.taken += needed
        try:
            yield
        finally:
            with self.changed:
                self.taken -= needed
                self.changed.notify_all()


memory = _Memory()
