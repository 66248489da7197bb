"""Decoding large JPEGs smaller: close to the reference, never below twice the size asked for, the same errors."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from clipmill.clipmodel.config import PreprocessConfig
from clipmill.clipmodel.errors import ImageError
from clipmill.clipmodel.preprocess import Preprocess
from PIL import Image, ImageFile

SIZE = 32
EXACT, FAST = Preprocess(SIZE), Preprocess(SIZE, decoding="fast")


def scene(mode: str, width: int, height: int) -> Image.Image:
    """Smooth, as photographs mostly are."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    bands = [128 + 60 * np.sin(x / (20 + 9 * i)) + 40 * np.cos(y / (30 + 7 * i)) for i in range(3)]
    return Image.fromarray(np.stack(bands, axis=-1).astype(np.uint8)).convert(mode)


def encoded(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The sizes at which images were decoded."""
    sizes = []
    load = ImageFile.ImageFile.load

    def watched(self: ImageFile.ImageFile) -> Any:
        pixels = load(self)
        sizes.append(self.size)
        return pixels

    monkeypatch.setattr(ImageFile.ImageFile, "load", watched)
    return sizes


@pytest.mark.parametrize(
    ("width", "height", "expected"),
    [
        (64, 64, (64, 64)),
        (127, 400, (127, 400)),  # a half would be below twice the size
        (128, 400, (64, 200)),
        (301, 203, (151, 102)),
        (256, 256, (64, 64)),
        (700, 530, (88, 67)),
        (2000, 1600, (250, 200)),  # an eighth is the smallest there is
    ],
)
def test_an_image_is_decoded_at_no_less_than_twice_the_size(
    decoded: list[tuple[int, int]], width: int, height: int, expected: tuple[int, int]
) -> None:
    pixels, size = FAST.with_size(encoded(scene("RGB", width, height)))
    assert decoded[0] == expected
    assert pixels.shape == (SIZE, SIZE, 3) and size == (width, height)  # its own, not the decoded one's


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("resize", ["shortest", "squash"])
def test_pixels_are_close_to_the_exact_ones(mode: str, options: dict[str, Any], resize: Any) -> None:
    data = encoded(scene(mode, 700, 530), quality=95, **options)
    config = PreprocessConfig(resize=resize)
    exact, fast = Preprocess(SIZE, config)(data), Preprocess(SIZE, config, decoding="fast")(data)
    assert np.abs(exact.astype(int) - fast).max() <= 6
    assert np.abs(exact.astype(int) - fast).mean() < 1


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "BMP"])
def test_other_formats_are_decoded_as_ever(kind: str) -> None:
    data = encoded(scene("RGB", 700, 530), kind)
    np.testing.assert_array_equal(FAST(data), EXACT(data))


def test_small_jpegs_and_opened_images_are_decoded_as_ever() -> None:
    small = encoded(scene("RGB", 100, 80))
    np.testing.assert_array_equal(FAST(small), EXACT(small))
    large = encoded(scene("RGB", 700, 530))
    opened = Image.open(io.BytesIO(large))
    np.testing.assert_array_equal(FAST(opened), EXACT(large))
    assert opened.size == (700, 530)


@pytest.mark.parametrize("width, height", [(5000, 3), (3, 5000), (3000, 40)])
def test_long_images_pass(width: int, height: int) -> None:
    assert FAST(encoded(scene("RGB", width, height))).shape == (SIZE, SIZE, 3)


def test_half_a_file_is_truncated_here_too() -> None:
    data = encoded(scene("RGB", 700, 530))
    with pytest.raises(ImageError, match="truncated JPEG") as caught:
        FAST(data[: len(data) // 2])
    assert caught.value.size == (700, 530)
