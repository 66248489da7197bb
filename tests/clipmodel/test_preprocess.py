"""Pixels equal the reference's to the last one, and no bytes raise anything but ImageError."""

from __future__ import annotations

import io
import subprocess
import sys
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from clipmill.clipmodel import resizing
from clipmill.clipmodel.config import PreprocessConfig
from clipmill.clipmodel.errors import ImageError
from clipmill.clipmodel.preprocess import MAX_PIXELS, Preprocess, normalise
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from picture_kit import drawn, encoded, files
from PIL import Image, ImageFile, PngImagePlugin

SIZE = 32
FIXED = settings(derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
SQUASH = PreprocessConfig(resize="squash")
MODES = ["RGB", "L", "LA", "RGBA", "CMYK", "YCbCr", "P", "1", "I;16"]


def reference(image: Image.Image, size: int, squash: bool = False) -> np.ndarray:
    """torchvision's Resize, CenterCrop and the conversion to RGB, as arithmetic on Pillow images of 8 bits a value."""
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    width, height = image.size
    if squash:
        return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC).convert("RGB"))
    if width <= height:
        wide, tall = size, int(size * height / width)
    else:
        wide, tall = int(size * width / height), size
    if (width, height) != (wide, tall):
        image = image.resize((wide, tall), Image.Resampling.BICUBIC)
    top, left = int(round((tall - size) / 2.0)), int(round((wide - size) / 2.0))  # noqa: RUF046
    return np.asarray(image.crop((left, top, left + size, top + size)).convert("RGB"))


@pytest.mark.parametrize("name", files())
@pytest.mark.parametrize("size", [16, 47, 90])  # smaller than the image, its own shorter side, larger
def test_pixels_equal_the_reference_for_every_kind_of_file(name: str, size: int) -> None:
    data = files()[name]
    pixels, wide_tall = Preprocess(size).with_size(data)
    opened = Image.open(io.BytesIO(data))
    assert pixels.shape == (size, size, 3) and pixels.dtype == np.uint8
    assert wide_tall == opened.size
    np.testing.assert_array_equal(pixels, reference(opened, size))
    np.testing.assert_array_equal(Preprocess(size)(Image.open(io.BytesIO(data))), pixels)
    np.testing.assert_array_equal(Preprocess(size, SQUASH)(data), reference(opened, size, squash=True))


@settings(FIXED, max_examples=300)
@given(
    st.sampled_from(MODES), st.integers(1, 90), st.integers(1, 90), st.integers(1, 70), st.booleans(), st.integers(0, 9)
)
def test_pixels_equal_the_reference_for_every_mode_and_size(
    mode: str, width: int, height: int, size: int, squash: bool, seed: int
) -> None:
    image = drawn(mode, width, height, seed)
    config = SQUASH if squash else PreprocessConfig()
    np.testing.assert_array_equal(Preprocess(size, config)(image), reference(image, size, squash))


@pytest.mark.parametrize("width, height", [(900, 2), (2, 900), (1500, 1), (1, 1500), (333, 17)])
def test_long_images_equal_the_reference_while_the_resized_image_is_of_bounded_size(width: int, height: int) -> None:
    image = drawn("RGB", width, height)
    np.testing.assert_array_equal(Preprocess(SIZE)(image), reference(image, SIZE))


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "I;16", "CMYK"])
@pytest.mark.parametrize("width, height", [(700, 9), (9, 700), (700, 40), (40, 700), (600, 3)])
def test_of_a_smooth_image_too_long_to_resize_whole_the_middle_is_within_two(
    mode: str, width: int, height: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    grey = (128 + 60 * np.sin(x / 30) + 40 * np.cos(y / 20)).astype(np.float32)
    if mode == "I;16":
        image = Image.fromarray((grey * 257).astype(np.uint16))
    else:
        image = Image.fromarray(grey.astype(np.uint8)).convert(mode)
    expected = reference(image, SIZE).astype(int)
    monkeypatch.setattr(resizing, "MAX_RESIZED", 0)
    assert np.abs(Preprocess(SIZE)(image) - expected).max() <= 2


@pytest.mark.parametrize("mode", ["RGB", "P", "RGBA", "1"])
@pytest.mark.parametrize("width, height", [(60_000, 1), (1, 60_000), (200_000, 2)])
def test_extreme_aspect_ratios_need_little_memory(mode: str, width: int, height: int) -> None:
    import resource

    image = Image.new(mode, (width, height), 1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    pixels = Preprocess(224)(image)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown < 100  # megabytes; the whole resized image would be gigabytes
    assert (pixels == pixels[0, 0]).all()


def test_an_image_too_tall_to_squash_is_refused() -> None:
    with pytest.raises(ImageError, match="too tall to squash"):
        Preprocess(224, SQUASH)(Image.new("1", (1, 1_000_000)))


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-6), (torch.bfloat16, 0.02)])
def test_normalise_is_scale_then_mean_then_deviation(dtype: torch.dtype, tolerance: float) -> None:
    config = PreprocessConfig()
    pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    result = normalise(torch.from_numpy(pixels), config, dtype)
    expected = ((pixels / 255.0 - np.array(config.mean)) / np.array(config.std)).transpose(0, 3, 1, 2)
    assert result.dtype == dtype and result.shape == (3, 3, 8, 8)
    assert result.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_allclose(result.to(torch.float64), expected, atol=tolerance)


def test_normalise_equals_torchvisions_arithmetic_to_the_last_bit() -> None:
    config = PreprocessConfig()
    pixels = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (2, 16, 24, 3), dtype=np.uint8))
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (config.mean, config.std))
    assert torch.equal(normalise(pixels, config), (pixels.permute(0, 3, 1, 2).float() / 255 - mean) / std)


def test_normalise_leaves_its_input_alone_and_works_after_inference_mode() -> None:
    pixels = torch.full((1, 2, 2, 3), 9, dtype=torch.uint8)
    config = PreprocessConfig(mean=(0.1, 0.2, 0.3))
    with torch.inference_mode():
        normalise(pixels, config)
    weight = torch.ones(1, requires_grad=True)
    (normalise(pixels, config) * weight).sum().backward()
    assert (pixels == 9).all()


@pytest.mark.parametrize(
    "data, reason",
    [
        (b"", "empty file"),
        (b"\0", "not an image"),
        (b"<html><body>404</body></html>", "an HTML page, not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "EPS is not supported"),
        (b"%PDF-1.4\n", "a PDF, not an image"),
        (b"\xff\xd8\xff", "truncated JPEG"),
        (b"\x89PNG\r\n\x1a\n", "truncated PNG"),
    ],
)
def test_what_is_no_image_says_so(data: bytes, reason: str) -> None:
    with pytest.raises(ImageError) as caught:
        Preprocess(SIZE)(data)
    assert str(caught.value) == reason


HALVED = ["jpeg", "progressive jpeg", "png", "webp", "gif", "bmp", "ppm", "avif", "jpeg 2000"]


@pytest.mark.parametrize("name", HALVED)
def test_half_a_file_is_truncated_and_names_its_format(name: str) -> None:
    data = files()[name]
    with pytest.raises(ImageError) as caught:
        Preprocess(SIZE)(data[: len(data) // 2])
    assert str(caught.value) == f"truncated {Image.open(io.BytesIO(data)).format}"


def test_a_truncated_image_still_tells_its_size() -> None:
    with pytest.raises(ImageError) as caught:
        Preprocess(SIZE)(files()["jpeg"][:1500])
    assert caught.value.size == (61, 47)


def bomb(width: int, height: int) -> bytes:
    data = bytearray(encoded(Image.new("1", (8, 8)), "PNG"))
    data[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)


@pytest.mark.parametrize("loose", [False, True])
def test_a_decompression_bomb_is_refused_from_its_header_whatever_pillow_is_set_to(
    loose: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("decoded"))
    if loose:
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    with pytest.raises(ImageError) as caught:
        Preprocess(SIZE)(bomb(100_000, 100_000))
    assert str(caught.value) == f"image over the limit of {MAX_PIXELS} pixels (100000x100000)"
    assert caught.value.size == (100_000, 100_000)


FUZZED = sorted(files())


@settings(FIXED, max_examples=700)
@given(st.sampled_from(FUZZED), st.data())
def test_damaged_files_raise_only_image_error(name: str, draw: st.DataObject) -> None:
    data = bytearray(files()[name])
    header = st.integers(0, min(len(data) - 1, 400))  # most of what can go wrong is said there
    for _ in range(draw.draw(st.integers(0, 6))):
        data[draw.draw(header | st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    if draw.draw(st.booleans()):
        del data[draw.draw(header | st.integers(0, len(data) - 1)) :]
    try:
        pixels = Preprocess(8)(bytes(data))
    except ImageError as error:
        assert str(error) and "\n" not in str(error) and len(str(error)) < 100
    else:
        assert pixels.shape == (8, 8, 3)


@settings(FIXED, max_examples=200)
@given(st.sampled_from([b"", b"\xff\xd8\xff", b"GIF89a", b"RIFF\0\0\0\0WEBPVP8 ", b"II*\0", b"BM", b"P6"]), st.binary())
def test_noise_behind_a_known_beginning_raises_only_image_error(beginning: bytes, noise: bytes) -> None:
    with pytest.raises(ImageError):
        Preprocess(8)(beginning + noise)


def test_pillow_warnings_are_not_seen_and_its_settings_not_touched() -> None:
    before = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, PngImagePlugin.MAX_TEXT_CHUNK)
    with warnings.catch_warnings(record=True) as seen:
        warnings.resetwarnings()
        warnings.simplefilter("always")
        Preprocess(SIZE)(files()["palette png, many transparent"])
    assert not seen
    assert before == (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, PngImagePlugin.MAX_TEXT_CHUNK)


def test_nothing_is_printed_in_a_fresh_interpreter(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("images")
    for name, data in files().items():
        (folder / name).write_bytes(data)
        (folder / f"{name}, half").write_bytes(data[: len(data) // 2])
    script = """
import pathlib, sys
from clipmill.clipmodel.preprocess import Preprocess, ImageError
for path in pathlib.Path(sys.argv[1]).iterdir():
    try: Preprocess(8)(path.read_bytes())
    except ImageError: pass
"""
    command = [sys.executable, "-c", script, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_threads_give_the_same_pixels() -> None:
    names = list(files()) * 5
    preprocess = Preprocess(SIZE)
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda name: preprocess(files()[name]), names))
    for name, pixels in zip(names, together, strict=True):
        np.testing.assert_array_equal(pixels, preprocess(files()[name]))
