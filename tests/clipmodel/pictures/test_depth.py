"""16-bit grey has 8 bits as its 8-bit original; float, signed and 32-bit pixels are refused."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from clipmill.clipmodel.errors import ImageError
from clipmill.clipmodel.preprocess import Preprocess
from picture_kit import drawn, encoded
from PIL import Image

SIZE = 32
GREY = np.asarray(drawn("L", 61, 47))
EXPECTED = Preprocess(SIZE)(Image.fromarray(GREY))


def pgm(values: np.ndarray, most: int) -> bytes:
    return b"P5 %d %d %d\n" % (values.shape[1], values.shape[0], most) + values.astype(">u2").tobytes()


def tiff(values: np.ndarray, order: str, bits: int, photometric: int = 1, form: int = 1) -> bytes:
    """Uncompressed, one strip. values: in the file's byte order."""
    height, width = values.shape
    data = values.tobytes()
    tags = [(256, width), (257, height), (258, bits), (259, 1), (262, photometric), (273, 8), (277, 1), (278, height)]
    tags += [(279, len(data)), (339, form)]
    directory = b"".join(struct.pack(order + "HHLL", tag, 4, 1, value) for tag, value in tags)
    start = {"<": b"II*\0", ">": b"MM\0*"}[order]
    return (
        start
        + struct.pack(order + "L", 8 + len(data))
        + data
        + struct.pack(order + "H", len(tags))
        + directory
        + bytes(4)
    )


@pytest.mark.parametrize("factor", [256, 257])  # how 8 bits become 16
@pytest.mark.parametrize("kind", ["png", "pgm", "little tiff", "big tiff", "packed tiff", "image", "jpeg xl"])
def test_16_bit_grey_is_as_its_8_bit_original(kind: str, factor: int) -> None:
    values = GREY.astype(np.uint16) * factor
    image = Image.fromarray(values)
    files = {
        "png": lambda: encoded(image, "PNG"),
        "pgm": lambda: pgm(values, 65535),
        "little tiff": lambda: tiff(values.astype("<u2"), "<", 16),
        "big tiff": lambda: tiff(values.astype(">u2"), ">", 16),
        "packed tiff": lambda: encoded(image, "TIFF", compression="tiff_lzw"),
        "image": lambda: image,
        "jpeg xl": lambda: encoded(image, "JXL", lossless=True),
    }
    np.testing.assert_array_equal(Preprocess(SIZE)(files[kind]()), EXPECTED)


def test_white_is_zero_where_a_tiff_says_so() -> None:
    values = (255 - GREY).astype("<u2") * 257
    np.testing.assert_array_equal(Preprocess(SIZE)(tiff(values, "<", 16, photometric=0)), EXPECTED)


def test_values_of_a_pgm_are_scaled_by_its_largest() -> None:
    pixels = Preprocess(SIZE)(pgm(GREY.astype(np.uint16) * 16, 4080))
    assert np.abs(pixels.astype(int) - EXPECTED).max() <= 1


def test_12_bit_grey_is_as_its_8_bit_original() -> None:
    wide = np.asarray(drawn("L", 60, 47)).astype(np.uint16) << 4
    pairs = wide.reshape(-1, 2)
    packed = np.stack([pairs[:, 0] >> 4, (pairs[:, 0] & 15) << 4 | pairs[:, 1] >> 8, pairs[:, 1] & 255], axis=1)
    data = tiff(packed.astype(np.uint8).reshape(47, -1), "<", 12)
    data = data.replace(struct.pack("<HHLL", 256, 4, 1, 90), struct.pack("<HHLL", 256, 4, 1, 60))
    expected = Preprocess(SIZE)(Image.fromarray((wide >> 4).astype(np.uint8)))
    np.testing.assert_array_equal(Preprocess(SIZE)(data), expected)


@pytest.mark.parametrize(
    "data, reason",
    [
        (encoded(drawn("F", 61, 47), "TIFF"), "float pixels are not supported"),
        (encoded(drawn("F", 61, 47), "TIFF", compression="tiff_lzw"), "float pixels are not supported"),
        (encoded(drawn("F", 61, 47), "PPM"), "float pixels are not supported"),
        (tiff(GREY.astype("<f8"), "<", 64, form=3), "float pixels are not supported"),
        (tiff(GREY.astype("<u4"), "<", 32), "32-bit pixels are not supported"),
        (tiff(GREY.astype(">i4"), ">", 32, form=2), "32-bit pixels are not supported"),
        (tiff(GREY.astype("<i2"), "<", 16, form=2), "signed pixels are not supported"),
    ],
)
def test_what_nothing_says_the_white_of_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(ImageError) as caught:
        Preprocess(SIZE)(data)
    assert str(caught.value) == reason
    assert caught.value.size == (61, 47)


@pytest.mark.parametrize("mode, reason", [("F", "float"), ("I", "32-bit")])
def test_pictures_in_memory_are_refused_alike(mode: str, reason: str) -> None:
    with pytest.raises(ImageError, match=f"{reason} pixels are not supported"):
        Preprocess(SIZE)(drawn(mode, 61, 47))


def test_16_bit_colours_lose_the_same_bits() -> None:
    values = np.random.default_rng(0).integers(0, 65536, (47, 61, 3)).astype(">u2")
    data = b"P6 61 47 65535\n" + values.tobytes()
    expected = Image.fromarray((values >> 8).astype(np.uint8))
    assert np.abs(Preprocess(SIZE)(data).astype(int) - Preprocess(SIZE)(expected)).max() <= 2
    assert Image.open(io.BytesIO(data)).mode == "RGB"
