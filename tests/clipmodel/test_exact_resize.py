"""Integer resizing in tensors equals Pillow's to the last bit, whatever the shape."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from clipmill.clipmodel.config import PreprocessConfig
from clipmill.clipmodel.exact_resize import columns_first, resize_and_crop
from clipmill.clipmodel.resizing import square
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

SIZE = 224
WORDS = {"wide": (3000, 70), "tall": (70, 3000), "tiny": (1, 1), "a row": (300, 1), "huge": (4000, 3000)}
NEAR = {
    "the size itself": (224, 224),
    "one more": (225, 224),
    "one less": (224, 223),
    "reduced in one pass": (224, 500),
}


def noise(width: int, height: int, channels: int = 3) -> np.ndarray:
    """Black and white, so that the cubic filter overshoots and each pass clips."""
    random = np.random.default_rng(width * 10_007 + height)
    return (random.integers(0, 2, (height, width, channels)) * 255).astype(np.uint8)


def assert_equals_pillow(width: int, height: int, size: int = SIZE) -> None:
    pixels = noise(width, height)
    expected = np.asarray(square(Image.fromarray(pixels), size, PreprocessConfig()))
    np.testing.assert_array_equal(resize_and_crop(torch.from_numpy(pixels), size).numpy(), expected)


@pytest.mark.parametrize(("width", "height"), [*WORDS.values(), *NEAR.values()], ids=[*WORDS, *NEAR])
def test_special_shapes(width: int, height: int) -> None:
    assert_equals_pillow(width, height)


def test_three_hundred_random_shapes() -> None:
    random = np.random.default_rng(0)
    shapes = random.integers(1, 700, (300, 2)).tolist()
    for width, height in shapes:
        if max(width, height) < 200 * min(width, height):  # longer ones are never resized whole, see `_band`
            assert_equals_pillow(width, height)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 48))
def test_other_sizes_of_the_encoder(width: int, height: int, size: int) -> None:
    assert_equals_pillow(width, height, size)


def test_the_pass_that_goes_first_depends_on_the_shape() -> None:
    """As Pillow has it: the vertical one where the height shrinks by more than twice as much as the width."""
    assert not columns_first(512, 384, 298, 224)
    assert not columns_first(384, 512, 224, 298)
    assert columns_first(300, 1000, 224, 746)


def test_any_layout_of_memory_gives_the_same() -> None:
    pixels = torch.from_numpy(noise(301, 222))
    planar = pixels.permute(2, 0, 1).contiguous().permute(1, 2, 0)
    assert torch.equal(resize_and_crop(planar, SIZE), resize_and_crop(pixels, SIZE))
    assert torch.equal(resize_and_crop(pixels[:, :, :1], SIZE)[:, :, 0], resize_and_crop(pixels, SIZE)[:, :, 0])
