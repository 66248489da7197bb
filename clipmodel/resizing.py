"""An image -> the encoder's square, as its `PreprocessConfig` says: resized, cropped around the middle, in RGB.

Two libraries are followed to the last pixel, and they differ. torchvision, as in OpenAI's own code, resizes an image in
its own mode, so that Pillow takes the nearest pixel of a palette or 1-bit image; it rounds the corner of the crop half
to even and converts to RGB last. transformers converts to RGB first, with white behind transparent pixels, and rounds
the corner down; pixels of the crop outside the resized image are black.
"""

from __future__ import annotations

import math

from PIL import Image

from .config import PreprocessConfig
from .errors import ImageError

MAX_RESIZED = 1 << 24  # pixels; a resized image larger than this is never made whole, see `_band`
MAX_SQUASHED = 178_956_970  # pixels of the image between the two passes of a squash
_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
_WHITE = (255, 255, 255, 255)

Box = tuple[float, float, float, float]  # left, top, right, bottom


def square(image: Image.Image, size: int, config: PreprocessConfig, box: Box | None = None) -> Image.Image:
    """RGB, `size` x `size`. box: where the picture lies in `image`, if not all of it (`scale_down`); the result is then
    close to the reference, not equal to it. ImageError for an image too tall to resize in bounded memory."""
    if config.steps == "transformers":
        image = rgb_on_white(image)
    resized = config.resize_to or size
    if box:
        image = image.resize(
            (resized, resized), _filter(config), box if config.resize == "squash" else _middle(box, resized)
        )
        image = _crop(image, size, size, config)
    elif config.resize == "squash":
        image = _crop(_squash(image, resized, config), size, size, config)
    else:
        image = _shortest(image, size, resized, config)
    return image.convert("RGB")


def _filter(config: PreprocessConfig) -> Image.Resampling:
    return _FILTERS[config.interpolation]


def rgb_on_white(image: Image.Image) -> Image.Image:
    """transformers' `convert_to_rgb` (since its version 5)."""
    if "A" in image.getbands() or image.info.get("transparency") is not None:
        image = Image.alpha_composite(Image.new("RGBA", image.size, _WHITE), image.convert("RGBA"))
    return image.convert("RGB")


def _squash(image: Image.Image, size: int, config: PreprocessConfig) -> Image.Image:
    if size * image.height > MAX_SQUASHED:  # Pillow resizes rows first, into size x height
        raise ImageError("image too tall to squash", image.size)
    return image.resize((size, size), _filter(config))


def _shortest(image: Image.Image, size: int, resized: int, config: PreprocessConfig) -> Image.Image:
    """The shorter side becomes `resized`; both sides are then cut around the middle."""
    width, height = image.size
    short, long = min(width, height), max(width, height)
    longer = int(resized * long / short)
    if short != resized:
        if resized * longer > MAX_RESIZED and longer > size:
            image = _band(image, size, resized, longer, config)
        else:
            image = image.resize((longer, resized) if width > height else (resized, longer), _filter(config))
    return _crop(image, size, size, config)


def _crop(image: Image.Image, width: int, height: int, config: PreprocessConfig) -> Image.Image:
    if image.size == (width, height):
        return image
    left, top = crop_start(image.width, width, config), crop_start(image.height, height, config)
    return image.crop((left, top, left + width, top + height))


def crop_start(resized: int, size: int, config: PreprocessConfig) -> int:
    if config.steps == "transformers":
        return (resized - size) // 2
    return round((resized - size) / 2.0)


def _band(image: Image.Image, size: int, resized: int, longer: int, config: PreprocessConfig) -> Image.Image:
    """`_shortest` of an image so long that its longer side would become `longer`: only the `size` pixels of that side
    that the crop keeps are computed.

    Close, not equal: Pillow takes a box in 32-bit floats (cropping to integer pixels first keeps them small), and which
    of its two passes goes first, clipping what overshoots, depends on the sizes. Photographs therefore do not come
    here, though it would save a fifth of their resizing.
    """
    start, scale = crop_start(longer, size, config), max(image.size) / longer
    begin, end = start * scale, (start + size) * scale
    support = 2 * max(scale, 1.0)
    first = max(int(begin - support) - 1, 0)
    last = min(int(end + support) + 2, max(image.size))
    if image.width > image.height:
        band = image.crop((first, 0, last, image.height))
        return band.resize((size, resized), _filter(config), box=(begin - first, 0, end - first, image.height))
    band = image.crop((0, first, image.width, last))
    return band.resize((resized, size), _filter(config), box=(0, begin - first, image.width, end - first))


def scale_down(source: Image.Image, size: int, config: PreprocessConfig) -> Box | None:
    """Have a JPEG decoded at a half, quarter or eighth of its size, its shorter side at least twice the resized one:
    fewer terms of its cosine transform are computed, and fewer pixels resized.

    Returns where its pixels will be in the decoded image, whose last row and column may reach beyond them; None for an
    image that is decoded at its full size.
    """
    before, enough = source.size, 2 * (config.resize_to or size) / min(source.size)
    drafted = source.draft(None, (math.ceil(source.width * enough), math.ceil(source.height * enough)))
    return drafted[1] if drafted and source.size != before else None


def _middle(box: Box, size: int) -> Box:
    """The square that `_shortest` keeps where `size` is both the resized side and the encoder's."""
    _, _, width, height = box
    short, long = min(width, height), max(width, height)
    longer = int(size * long / short)
    begin = round((longer - size) / 2.0) * long / longer
    end = begin + size * long / longer
    return (begin, 0, end, height) if width > height else (0, begin, width, end)
