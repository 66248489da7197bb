"""Small files that ask a decoder for much: memory, time, or both. Run as a script it decodes them, one at a time, and
prints what each took: `python hostile_pictures.py FILE…` -> lines of json."""

from __future__ import annotations

import io
import json
import struct
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

LARGE = 13_000  # a side; 169 million pixels, below the limit of pixels


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, colours: int = 2, before: bytes = b"", depth: int = 8) -> bytes:
    """All black, and small."""
    values = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colours]
    row = bytes(1 + (width * values * depth + 7) // 8)
    packed = zlib.compressobj(1)
    rows_at_once = max(1, (1 << 20) // len(row))
    data = [packed.compress(row * rows_at_once) for _ in range(height // rows_at_once)]
    data += [packed.compress(row * (height % rows_at_once)), packed.flush()]
    header = struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + before + chunk(b"IDAT", b"".join(data)) + chunk(b"IEND", b"")


def tiff(width: int, height: int, *more: tuple[int, int, int, int], compression: int = 1, data: bytes = b"") -> bytes:
    tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, compression), (262, 3, 1, 1)]
    tags += [(277, 3, 1, 1)]
    tags += more or ((273, 4, 1, 8), (278, 4, 1, height), (279, 4, 1, 100))
    directory = b"".join(struct.pack("<HHLL", *tag) for tag in sorted(tags))
    return b"II*\0" + struct.pack("<LH", 8, len(tags)) + directory + bytes(4) + data


def webp(width: int, height: int) -> bytes:
    """34 bytes, of a lossless picture."""
    header = struct.pack("<BI", 0x2F, (width - 1) | (height - 1) << 14) + bytes(9)
    return b"RIFF" + struct.pack("<I", 26) + b"WEBPVP8L" + struct.pack("<I", 14) + header


def jpeg_with(segments: bytes) -> bytes:
    data = encoded(Image.new("RGB", (64, 48)), "JPEG")
    return data[:2] + segments + data[2:]


def jpeg_of_scans(count: int, side: int) -> bytes:
    """The last scan of a progressive JPEG, over and over."""
    data = encoded(Image.new("RGB", (side, side), (90, 120, 30)), "JPEG", progressive=True, quality=5)
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * count + data[-2:]


def gif_with(blocks: bytes) -> bytes:
    data = encoded(Image.new("L", (64, 48)), "GIF")
    at = 13 + (3 << (data[10] & 7) + 1)
    return data[:at] + blocks + data[at:]


def icon(picture: bytes, signature: bytes = b"\0\0\1\0") -> bytes:
    return signature + b"\1\0" + struct.pack("<BBBBHHII", 0, 0, 0, 0, 1, 32, len(picture), 22) + picture


def dib(width: int, height: int) -> bytes:
    return struct.pack("<IiiHHIIiiII", 40, width, height, 1, 32, 0, 0, 0, 0, 0, 0)


def patched(data: bytes, mark: bytes, at: int, *sides: int) -> bytes:
    """Two sides, 4 bytes each, written `at` bytes after a mark."""
    begin = data.index(mark) + at
    return data[:begin] + struct.pack(f">{len(sides)}I", *sides) + data[begin + 4 * len(sides) :]


def too_large() -> Iterator[tuple[str, bytes]]:
    """Files whose headers ask for more than one picture may have."""
    small = Image.new("RGB", (64, 64))
    yield "webp", webp(16_383, 10_922)
    yield "tall png", png(1, 178_000_000, 0)
    yield "tall 1-bit png", png(1, 178_000_000, 0, depth=1)
    yield "large png", png(12_000, 12_000)
    yield "large alpha png", png(8_200, 8_200, 6)
    yield "tall tiff", tiff(1, 178_000_000)
    yield "tall packed tiff", tiff(1, 178_000_000, compression=5)
    yield (
        "large tile",
        tiff(99, 99, (322, 4, 1, 40_000), (323, 4, 1, 40_000), (324, 4, 1, 8), (325, 4, 1, 9), compression=5),
    )
    yield "jpeg", patched(encoded(small, "JPEG"), b"\xff\xc0", 5, LARGE << 16 | LARGE)[:-2] + b"\xff\xd9"
    yield "bmp", b"BM" + bytes(8) + struct.pack("<I", 54) + dib(LARGE, LARGE)
    yield "ppm", b"P6 %d %d 255\n" % (LARGE, LARGE)
    yield "tga", struct.pack("<BBBHHBHHHHBB", 0, 0, 10, 0, 0, 0, 0, 0, LARGE, LARGE, 32, 48) + bytes(99)
    yield "sgi", struct.pack(">HBBHHHH", 474, 1, 1, 3, LARGE, LARGE, 3) + bytes(600)
    yield "psd", b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, LARGE, LARGE, 8, 3) + bytes(99)
    yield "qoi", b"qoif" + struct.pack(">IIBB", LARGE, LARGE, 4, 0) + bytes(99)
    yield "dds", patched(encoded(small, "DDS"), b"DDS ", 12, *(struct.unpack(">I", struct.pack("<I", LARGE)) * 2))
    yield "icon of a png", icon(png(9_000, 9_000, 6))
    yield "icon of a bitmap", icon(dib(LARGE, 2 * LARGE))
    yield "cursor", icon(dib(LARGE, 2 * LARGE), b"\0\0\2\0")
    inner = png(9_000, 9_000, 6)
    yield "apple icon", b"icns" + struct.pack(">I4sI", len(inner) + 16, b"ic10", len(inner) + 8) + inner
    codestream = encoded(small, "JPEG2000", no_jp2=True)
    yield "jpeg 2000", patched(patched(codestream, b"\xff\x51", 6, LARGE, LARGE), b"\xff\x51", 22, LARGE, LARGE)
    yield "avif", patched(encoded(small, "AVIF"), b"ispe", 8, LARGE, LARGE)
    yield "jpeg xl", b"\xff\x0a" + (0 | 3 << 1 | (LARGE - 1) << 3 | 1 << 33).to_bytes(12, "little") + bytes(20)


def too_much_work() -> Iterator[tuple[str, bytes]]:
    """Files that would keep a decoder busy, or grow while their headers are read."""
    yield "500 scans", jpeg_of_scans(500, 1_000)
    yield "jpeg of empty segments", jpeg_with(b"\xff\xe1\0\2" * 1_000_000)
    yield "icon of many icons", icon(b"\x89PNG\r\n\x1a\n" * 1_000_000)
    yield "gif of tiny comments", gif_with(b"!\xfe" + b"\1x" * 1_000_000 + b"\0")
    yield "png of tiny texts", png(9, 9, before=chunk(b"tEXt", b"a\0") * 200_000)
    yield "overlapping tags", tiff(9, 9, *((tag, 7, 400_000, 0) for tag in range(40_000, 60_000)), data=bytes(400_000))
    yield "too many strips", tiff(1, 900_000, (273, 4, 900_000, 99), (278, 4, 1, 1), data=bytes(4_000_000))
    yield "blanks before a number", b"P6\n" + b" " * 10_000_000 + b"2 2 255\n" + bytes(12)
    yield "a comment without end", b"P6\n#" + b"x" * 10_000_000
    yield "comments among numbers", b"P3 900 900 255\n" + b"#\n" * 5_000_000
    yield "run lengths of nothing", b"BM" + bytes(8) + struct.pack("<I", 1078) + struct.pack(
        "<IiiHHIIiiII", 40, 900, 900, 1, 8, 1, 0, 0, 0, 256, 0
    ) + bytes(1024) + b"\0\0" * 5_000_000  # fmt: skip
    yield "im without end", b"Image type: L 8 image\r\n" + b"a: b\n" * 2_000_000


def harmless() -> Iterator[tuple[str, bytes]]:
    """Files that have much beside their pixels."""
    yield "jpeg with fill bytes", jpeg_with(b"\xff" * 10_000_000)
    yield "jpeg with fill bytes that end in none", jpeg_with(b"\xff" * 10_000_000 + b"\0")
    yield "jpeg with stuffed bytes", jpeg_with((b"\xff" * 99 + b"\0") * 100_000)
    yield "jpeg with large segments", jpeg_with((b"\xff\xe2\xff\xff" + bytes(65_533)) * 150)
    yield "png with a packed text", png(9, 9, before=chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(200_000_000), 9)))
    yield "png with a packed profile", png(9, 9, before=chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(200_000_000), 9)))
    yield "gif with a long comment", gif_with(b"!\xfe" + (b"\xff" + bytes(255)) * 40_000 + b"\0")
    resources = (b"8BIM" + bytes(8)) * 500_000
    yield "psd with resources", b"8BPS" + struct.pack(">H6xHIIHHI", 1, 3, 10, 10, 8, 3, 0) + struct.pack(
        ">I", len(resources)
    ) + resources + bytes(4 + 2 + 300)  # fmt: skip


def at_the_limit() -> Iterator[tuple[str, bytes]]:
    """Files that need most of what one picture may have."""
    yield "png", png(11_000, 11_000)
    yield "alpha png", png(7_800, 7_800, 6)
    yield "16-bit png", png(6_500, 6_500, 0, depth=16)
    yield "tall png", png(1, 30_000_000, 0)
    yield "progressive jpeg", encoded(Image.new("RGB", (8_400, 8_400), 7), "JPEG", progressive=True)
    yield "webp", encoded(Image.new("RGB", (5_000, 5_000), 7), "WEBP", method=0)
    yield "lossless webp", encoded(Image.new("RGBA", (4_300, 4_300), (7, 8, 9, 10)), "WEBP", lossless=True, method=0)
    yield "avif", encoded(Image.new("RGB", (5_000, 5_000), 7), "AVIF", speed=10)
    yield "jpeg 2000", encoded(Image.new("RGB", (4_500, 4_500), 7), "JPEG2000")
    yield "turned tiff", encoded(Image.new("RGB", (7_800, 7_800)), "TIFF", compression="tiff_lzw", tiffinfo={274: 6})


def peak() -> int:
    """The most memory this process has held, bytes. Not getrusage's, which counts the parent before exec."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def main(paths: list[str]) -> None:
    from clipmill.clipmodel.errors import ImageError
    from clipmill.clipmodel.preprocess import Preprocess

    preprocess = Preprocess(224)
    preprocess(encoded(Image.new("RGB", (300, 300)), "JPEG"))
    for path in paths:
        data = Path(path).read_bytes()
        Path("/proc/self/clear_refs").write_text("5")  # from here on
        before, began = peak(), time.monotonic()
        try:
            preprocess(data)
            error = None
        except ImageError as caught:
            error = str(caught)
        took = {"error": error, "seconds": time.monotonic() - began, "bytes": peak() - before}
        print(json.dumps({"name": Path(path).name, **took}))


if __name__ == "__main__":
    main(sys.argv[1:])
