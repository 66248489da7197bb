"""What is left out of a file before Pillow sees it changes no pixel."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from clipmill.clipmodel.errors import ImageError
from clipmill.clipmodel.pictures.gif import read_gif
from clipmill.clipmodel.pictures.jpeg import read_jpeg
from clipmill.clipmodel.pictures.plain import read_psd
from clipmill.clipmodel.pictures.png import read_png
from clipmill.clipmodel.preprocess import Preprocess
from hostile_pictures import chunk, gif_with, jpeg_with, png
from picture_kit import drawn, encoded
from PIL import Image, PngImagePlugin

SIZE = 32
NOISE = np.random.default_rng(0).bytes(50_000)


def pixels_of(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_without_its_applications_segments_has_the_same_pixels(mode: str, progressive: bool) -> None:
    exif = Image.Exif()
    exif[0x010E] = "x" * 9_000
    options = {"exif": exif, "icc_profile": NOISE, "comment": b"y" * 9_000, "progressive": progressive}
    data = encoded(drawn(mode, 61, 47), "JPEG", **options)
    header = read_jpeg(data)
    assert len(header.data) < len(data) - 60_000
    np.testing.assert_array_equal(pixels_of(header.data), pixels_of(data))
    assert b"x" * 9_000 in header.exif


def test_colours_that_adobes_segment_tells_are_as_told() -> None:
    data = encoded(drawn("RGB", 61, 47), "JPEG", keep_rgb=True)
    np.testing.assert_array_equal(pixels_of(read_jpeg(data).data), pixels_of(data))


BETWEEN = [b"\xff" * 99, b"\xff\xe1\0\0", b"\xff\xe1\0\1", b"\xff\xe5\0\4abjunk", b"\xff\xfe\0\2" * 500]


@pytest.mark.parametrize("between", BETWEEN)
def test_a_jpeg_may_have_much_between_its_segments(between: bytes) -> None:
    plain = jpeg_with(b"")
    np.testing.assert_array_equal(Preprocess(SIZE)(jpeg_with(between)), Preprocess(SIZE)(plain))


@pytest.mark.parametrize("damage", [b"\xff\xdb\0\0", b"\xff\xc0\0\1", b"\xff\x02", b"\xff\xe1\xff\xff"])
def test_a_jpeg_of_a_damaged_segment_is_broken(damage: bytes) -> None:
    with pytest.raises(ImageError, match=r"^(broken|truncated) JPEG$"):
        Preprocess(SIZE)(jpeg_with(damage))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "I;16"])
def test_a_png_without_its_texts_has_the_same_pixels(mode: str) -> None:
    texts = PngImagePlugin.PngInfo()
    texts.add_text("a", "x" * 9_000)
    texts.add_text("b", "y" * 9_000, zip=True)
    texts.add_itxt("c", "z" * 9_000)
    data = encoded(drawn(mode, 61, 47), "PNG", pnginfo=texts, icc_profile=NOISE, dpi=(72, 72))
    header = read_png(data)
    assert len(header.data) < len(data) - 60_000
    np.testing.assert_array_equal(pixels_of(header.data), pixels_of(data))


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt"])
def test_a_png_of_more_text_than_pillow_takes_is_decoded(kind: bytes) -> None:
    packed = zlib.compress(bytes(2 << 20))
    text = chunk(kind, b"a\0\0" + packed if kind == b"zTXt" else b"a\0\1\0\0\0" + packed)
    with pytest.raises(ValueError, match="too large"):
        Image.open(io.BytesIO(png(9, 9, before=text))).load()
    plain, expected = png(9, 9), Preprocess(SIZE)(png(9, 9))
    np.testing.assert_array_equal(Preprocess(SIZE)(png(9, 9, before=text)), expected)
    np.testing.assert_array_equal(Preprocess(SIZE)(plain[:-12] + text + plain[-12:]), expected)


def test_an_animated_png_is_its_first_frame() -> None:
    first, second = drawn("RGB", 61, 47), drawn("RGB", 61, 47, seed=1)
    data = encoded(first, "PNG", save_all=True, append_images=[second])
    np.testing.assert_array_equal(Preprocess(SIZE)(data), Preprocess(SIZE)(first))


@pytest.mark.parametrize("transparency", [None, 3])
def test_a_gif_without_its_comments_has_the_same_pixels(transparency: int | None) -> None:
    options = {} if transparency is None else {"transparency": transparency}
    frames = [drawn("P", 61, 47, seed=1)]
    data = encoded(drawn("P", 61, 47), "GIF", comment=b"x" * 9_000, save_all=True, append_images=frames, **options)
    header = read_gif(data)
    assert len(header.data) < len(data) - 9_000
    np.testing.assert_array_equal(pixels_of(header.data), pixels_of(data))


def test_a_gif_that_ends_among_its_blocks_is_truncated() -> None:
    data = gif_with(b"!\xfe" + b"\x03abc" * 50 + b"\0")
    for cut in range(data.index(b"!\xfe"), data.index(b"abc") + 200, 7):
        with pytest.raises(ImageError, match="truncated GIF"):
            Preprocess(SIZE)(data[:cut])


def test_a_psd_is_the_picture_behind_its_layers() -> None:
    values = np.random.default_rng(0).integers(0, 256, (3, 7, 9), dtype=np.uint8)
    start = b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, 7, 9, 8, 3)
    resources = b"8BIM" + struct.pack(">HBxI", 1039, 0, 100) + bytes(100)
    layers = struct.pack(">I", 50) + bytes(50)
    parts = struct.pack(">I", 0) + struct.pack(">I", len(resources)) + resources + layers
    data = start + parts + struct.pack(">H", 0) + values.tobytes()
    expected = values.transpose(1, 2, 0)
    np.testing.assert_array_equal(pixels_of(data), expected)
    np.testing.assert_array_equal(pixels_of(read_psd(data).data), expected)
    with pytest.raises(ImageError, match="truncated PSD"):
        Preprocess(SIZE)(data[:60])
