"""Pictures that users met, and what is right for each."""

from __future__ import annotations

import tarfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from clipmill.clipmodel.errors import ImageError
from clipmill.clipmodel.preprocess import Preprocess

SHARD = Path(__file__).parents[2] / "data" / "odd_images_and_names.tar.gz"
PREPROCESS = Preprocess(32)


@cache
def members() -> dict[str, bytes]:
    with tarfile.open(SHARD) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["a01_ztxt2mb", "a02_itxt2mb_comp", "a04_text_plain_2mb", "a05_many_ztxt"])
def test_a_png_with_much_text_is_as_one_without(name: str) -> None:
    np.testing.assert_array_equal(PREPROCESS(members()[f"{name}.png"]), PREPROCESS(members()["a00_base_png.png"]))


@pytest.mark.parametrize("name", ["b01_grey16.png", "b02_grey16_tiff.tif"])
def test_16_bit_grey_is_as_8_bit_grey(name: str) -> None:
    np.testing.assert_array_equal(PREPROCESS(members()[name]), PREPROCESS(members()["b00_grey8.png"]))


def test_16_bit_colours_and_a_ppm_are_as_8_bit_colours() -> None:
    for name in ("b06_rgb16.png", "d09_ppm.ppm"):
        np.testing.assert_array_equal(PREPROCESS(members()[name]), PREPROCESS(members()["a00_base_png.png"]))


@pytest.mark.parametrize(
    "name, reason",
    [
        ("b04_float_tiff255.tif", "float pixels are not supported"),
        ("d00_heic_as_jpg.jpg", "truncated HEIC"),  # with the plug-in; the file is a stub
        ("d01_heic.heic", "truncated HEIC"),
        ("d02_HEIC_upper.HEIC", "truncated HEIC"),
        ("d10_heic_json_only.heic", "truncated HEIC"),
        ("d06_svg_as_png.png", "SVG is not supported"),
        ("d07_html_as_jpg.jpg", "an HTML page, not an image"),
    ],
)
def test_what_is_not_decoded_is_named_by_its_content(name: str, reason: str) -> None:
    with pytest.raises(ImageError) as caught:
        PREPROCESS(members()[name])
    assert str(caught.value) == reason


def test_exif_orientation_is_ignored_unless_asked_for() -> None:
    data = members()["c03_exif6.jpg"]
    assert PREPROCESS.with_size(data)[1] == (160, 96)
    assert Preprocess(32, turn=True).with_size(data)[1] == (96, 160)


def test_the_others_are_decoded() -> None:
    for name, data in members().items():
        if name[0] in "ace" and Path(name).suffix.lower() in (".png", ".jpg", ".jpeg", ".avif", ".webp", ".gif"):
            assert PREPROCESS(data).shape == (32, 32, 3)
