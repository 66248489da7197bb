"""Ways in which the files of a crawled pair are broken, one function each."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

Files = dict[str, bytes]  # extension -> content


def _image(files: Files) -> str:
    return next(extension for extension in files if extension not in ("txt", "json"))


def _with_image(files: Files, content: bytes, extension: str | None = None) -> Files:
    old = _image(files)
    return {(extension or old) if e == old else e: content if e == old else data for e, data in files.items()}


def _half(files: Files) -> Files:
    data = files[_image(files)]
    return _with_image(files, data[: len(data) // 2])


def _empty(files: Files) -> Files:
    return _with_image(files, b"")


def _web_page(files: Files) -> Files:
    return _with_image(files, b"<!DOCTYPE html><title>403 Forbidden</title>", "jpg")


def _noise(files: Files) -> Files:
    return _with_image(files, zlib.compress(bytes(range(256)) * 9))


def _vector_image(files: Files) -> Files:
    return _with_image(files, b'<svg xmlns="http://www.w3.org/2000/svg"><circle r="9"/></svg>', "png")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _bomb(files: Files) -> Files:
    """A few bytes that claim to be 2.5 gigapixels."""
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0))
    return _with_image(files, b"\x89PNG\r\n\x1a\n" + header + _chunk(b"IDAT", zlib.compress(bytes(999))), "png")


def _no_pixels(files: Files) -> Files:
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", 64, 64, 8, 2, 0, 0, 0))
    return _with_image(files, b"\x89PNG\r\n\x1a\n" + header + _chunk(b"IEND", b""), "png")


def _head_only(files: Files) -> Files:
    return _with_image(files, files[_image(files)][:20])


def _latin1_caption(files: Files) -> Files:
    return {**files, "txt": "a caf\u00e9 sign, na\u00efvely encoded".encode("latin-1")}


def _broken_json(files: Files) -> Files:
    return {**files, "json": files["json"][:-20]}


def _zeroed(files: Files) -> Files:
    return _with_image(files, bytes(len(files[_image(files)])))


def _wrong_start(files: Files) -> Files:
    data = files[_image(files)]
    return _with_image(files, b"\xff\xfe" + data[2:])


DAMAGES: tuple[Callable[[Files], Files], ...] = (
    _half, _empty, _web_page, _noise, _vector_image, _bomb, _no_pixels, _head_only, _latin1_caption, _broken_json,
    _zeroed, _wrong_start,
)  # fmt: skip
