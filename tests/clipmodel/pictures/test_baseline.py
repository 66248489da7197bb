"""Which JPEGs are left to a GPU's engines: only those of which a CPU would make the same, told without decoding."""

from __future__ import annotations

import io
import random
from typing import Any

import numpy as np
import pytest
from clipmill.clipmodel.pictures.baseline import baseline
from clipmill.clipmodel.pictures.opening import opened
from clipmill.clipmodel.pictures.orientation import orientation
from PIL import Image
from test_damaged import damaged


def jpeg(width: int = 40, height: int = 24, mode: str = "RGB", **options: Any) -> bytes:
    pixels = np.random.default_rng(width * height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, "JPEG", **options)
    return file.getvalue()


WHOLE = jpeg()
SCAN = WHOLE.index(b"\xff\xda")


@pytest.mark.parametrize(
    "file",
    [
        WHOLE,
        jpeg(subsampling=0),
        jpeg(subsampling=1),
        jpeg(mode="L"),
        jpeg(restart_marker_rows=1),
        jpeg(comment=b"\xff\xd9 in a comment", icc_profile=b"\xff" * 3000),
        WHOLE + b"what follows the end",
    ],
    ids=["4:2:0", "4:4:4", "4:2:2", "grey", "restarts", "a comment", "a tail"],
)
def test_usual_jpegs_are_told_with_their_size(file: bytes) -> None:
    told = baseline(file)
    assert told is not None and told[:2] == (40, 24)


@pytest.mark.parametrize(
    "file",
    [
        b"",
        b"\xff\xd8",
        b"\xff\xd8\xff",
        jpeg(progressive=True),
        jpeg(mode="CMYK"),
        jpeg(subsampling=0, keep_rgb=True),
        WHOLE[:-2],
        WHOLE[:-9],
        WHOLE[: SCAN + 3],
        WHOLE[:SCAN] + b"\xff\xd9",
        WHOLE[:-20] + b"\xff\xc4" + WHOLE[-20:],
        WHOLE.replace(b"\xff\xc0\0\x11\x08", b"\xff\xc0\0\x11\x0c"),
        WHOLE.replace(b"\xff\xc0\0\x11\x08\0\x18", b"\xff\xc0\0\x11\x08\0\0"),
        WHOLE.replace(b"\x01\x22\0", b"\x01\x41\0"),
        bytes(WHOLE[:2] + b"\xff\xfe\0\x04ab" * 200 + WHOLE[2:]),
    ],
    ids=[
        *(
            "nothing",
            "a mark",
            "half a mark",
            "progressive",
            "CMYK",
            "RGB",
            "no end",
            "cut",
            "half a header",
            "no data",
        ),
        *("a segment in the data", "12 bits", "no height", "4:1:1", "many segments"),
    ],
)
def test_whatever_is_odd_is_left_to_the_cpu(file: bytes) -> None:
    assert baseline(file) is None


def test_the_cpus_decoder_finds_the_same_size_in_whatever_is_told() -> None:
    """Of 3,000 damaged files. What the two could disagree about, a width of another segment, is never told."""
    told = 0
    for seed in range(3000):
        file = damaged(WHOLE, random.Random(seed))
        if (found := baseline(file)) is not None:
            with opened(file) as picture:
                assert picture.image.size == found[:2] and picture.image.mode in ("RGB", "L"), seed
            told += 1
    assert 300 < told < 2900


def test_exif_is_told() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    told = baseline(jpeg(exif=exif))
    assert told is not None and orientation(told.exif) == 6
