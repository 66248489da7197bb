"""EXIF orientation is ignored, as by the reference, unless pictures are to be turned."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from clipmill.clipmodel.config import PreprocessConfig
from clipmill.clipmodel.pictures.orientation import orientation
from clipmill.clipmodel.preprocess import Preprocess
from hypothesis import given, settings
from hypothesis import strategies as st
from picture_kit import drawn, encoded
from PIL import Image, ImageOps

SIZE = 32
PICTURE = drawn("RGB", 90, 60)
LEFT, TURNED = Preprocess(SIZE), Preprocess(SIZE, turn=True)


def exif(way: int) -> Image.Exif:
    block = Image.Exif()
    block[0x010E] = "before it"
    block[0x0112] = way
    return block


@pytest.mark.parametrize("way", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_a_picture_is_turned_when_asked_for(kind: str, way: int) -> None:
    data = encoded(PICTURE, kind, exif=exif(way))
    decoded = Image.open(io.BytesIO(data))
    upright = ImageOps.exif_transpose(decoded)
    pixels, size = LEFT.with_size(data)
    np.testing.assert_array_equal(pixels, LEFT(Image.frombytes("RGB", decoded.size, decoded.tobytes())))
    assert size == (90, 60)
    pixels, size = TURNED.with_size(data)
    np.testing.assert_array_equal(pixels, LEFT(Image.frombytes("RGB", upright.size, upright.tobytes())))
    assert size == upright.size == ((60, 90) if way > 4 else (90, 60))
    np.testing.assert_array_equal(TURNED(Image.open(io.BytesIO(data))), pixels)


@pytest.mark.parametrize("turn", [False, True])
def test_a_tiff_is_turned_by_pillow_once(turn: bool) -> None:
    data = encoded(PICTURE, "TIFF", tiffinfo={274: 6})
    pixels, size = Preprocess(SIZE, turn=turn).with_size(data)
    np.testing.assert_array_equal(pixels, LEFT(PICTURE.transpose(Image.Transpose.ROTATE_270)))
    assert size == (60, 90)


def test_large_jpegs_are_turned_when_decoded_fast_too() -> None:
    smooth = drawn("RGB", 9, 6).resize((900, 600), Image.Resampling.BICUBIC)
    data = encoded(smooth, "JPEG", exif=exif(6), quality=95)
    for config in (PreprocessConfig(), PreprocessConfig(resize="squash")):
        fast, size = Preprocess(SIZE, config, decoding="fast", turn=True).with_size(data)
        assert size == (600, 900)
        assert np.abs(fast.astype(int) - Preprocess(SIZE, config, turn=True)(data)).max() <= 6


@pytest.mark.parametrize("order", ["<", ">"])
def test_the_tag_is_found_in_either_byte_order_after_others(order: str) -> None:
    block = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "LH", 8, 2)
    block += struct.pack(order + "HHLL", 0x010F, 4, 1, 5) + struct.pack(order + "HHLHH", 0x0112, 3, 1, 8, 0)
    assert orientation(block) == orientation(b"Exif\0\0" + block) == 8


@settings(derandomize=True, deadline=None, database=None, max_examples=200)
@given(st.sampled_from([b"", b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08", b"Exif\0\0II*\0"]), st.binary(max_size=60))
def test_a_block_of_noise_leaves_the_picture_as_it_is_or_turns_it(begin: bytes, noise: bytes) -> None:
    assert orientation(begin + noise) in range(1, 9)
