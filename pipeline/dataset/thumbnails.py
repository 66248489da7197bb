"""A dataset's images: fetched from their shards by one range request, and made small for a page."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from PIL import Image

from ...clipmodel.pictures.opening import opened
from ...clipmodel.pictures.orientation import turned
from ..storage.retry import retry
from ..storage.urls import is_web, open_storage

_ATTEMPTS = 3  # people wait for these
_QUALITY = 80
_PAPER = (255, 255, 255)  # behind transparent pixels


def fetch_image(
    shard: str, offset: int | None, size: int | None, storage_options: Mapping[str, Any] | None = None
) -> bytes | None:
    """An image's bytes, as its shard holds them. shard, offset, size: the columns `shard`, `image_offset` and
    `image_size` of its row.

    None where it has no range of its own (Parquet and folder inputs, compressed tars), and where the shard cannot be
    read any more: a page with one picture less is better than none.
    """
    if offset is None or size is None:
        return None
    try:
        data = retry(lambda: _range(shard, offset, size, storage_options), _ATTEMPTS)
    except Exception:  # storage clients raise anything
        return None
    return data if len(data) == size else None


def thumbnail(image: bytes, side: int = 256) -> bytes | None:
    """A JPEG whose longer side is at most `side` pixels, turned as EXIF says; None for bytes that are not an image,
    or one that takes too much memory or work to decode."""
    try:
        with opened(image) as picture:
            picture.image.draft("RGB", (2 * side, 2 * side))  # JPEGs are decoded at a fraction of their size
            small = picture.loaded()
            small.thumbnail((side, side), reducing_gap=2.0)
            file = io.BytesIO()
            _on_paper(turned(small, picture.orientation)).save(file, "JPEG", quality=_QUALITY)
    except Exception:  # Pillow raises anything on damaged bytes
        return None
    return file.getvalue()


def _range(shard: str, offset: int, size: int, storage_options: Mapping[str, Any] | None) -> bytes:
    storage = open_storage(shard, storage_options)
    if is_web(shard):  # an opened file refuses a server that sends everything instead
        with storage.open(shard, "rb", cache_type="none") as file:
            file.seek(offset)
            data: bytes = file.read(size)
    else:
        data = storage.cat_file(shard, start=offset, end=offset + size)
    return data


def _on_paper(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    paper = Image.new("RGB", image.size, _PAPER)
    paper.paste(image, mask=image.getchannel("A"))
    return paper
