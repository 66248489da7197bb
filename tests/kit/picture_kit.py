"""Pictures of every mode and file type, the same ones each time."""

from __future__ import annotations

import io
import warnings
from functools import cache
from typing import Any

import numpy as np
from PIL import Image

_TOPS = {"I": 300, "F": 300, "I;16": 65536}  # of modes of numbers
_TYPES = {"I": np.int32, "F": np.float32, "I;16": np.uint16}


def drawn(mode: str, width: int, height: int, seed: int = 0) -> Image.Image:
    random = np.random.default_rng(seed)
    if mode in _TYPES:
        return Image.fromarray(random.integers(0, _TOPS[mode], (height, width)).astype(_TYPES[mode]))
    if mode == "1":
        return drawn("L", width, height, seed).convert("1")
    bands = len(Image.new(mode, (1, 1)).getbands())
    image = Image.frombytes(mode, (width, height), random.bytes(width * height * bands))
    if mode == "P":
        image.putpalette(random.bytes(768))
    return image


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # IM's days are numbered
        image.save(buffer, kind, **options)
    return buffer.getvalue()


def turned_by_exif() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(drawn("RGB", 60, 40), "JPEG", exif=exif)


@cache
def files() -> dict[str, bytes]:
    rgb = drawn("RGB", 61, 47)
    frames = {"save_all": True, "append_images": [drawn("RGB", 61, 47, seed=1)], "duration": 50}
    palette = drawn("P", 53, 71)
    return {
        "jpeg": encoded(rgb, "JPEG"),
        "progressive jpeg": encoded(rgb, "JPEG", progressive=True),
        "cmyk jpeg": encoded(drawn("CMYK", 61, 47), "JPEG"),
        "grey jpeg": encoded(drawn("L", 47, 61), "JPEG"),
        "exif-rotated jpeg": turned_by_exif(),
        "two-picture jpeg": encoded(rgb, "MPO", save_all=True, append_images=[drawn("RGB", 61, 47, seed=2)]),
        "png": encoded(rgb, "PNG"),
        "alpha png": encoded(drawn("RGBA", 61, 47), "PNG"),
        "grey-alpha png": encoded(drawn("LA", 61, 47), "PNG"),
        "palette png": encoded(palette, "PNG"),
        "palette png, one transparent": encoded(palette, "PNG", transparency=3),
        "palette png, many transparent": encoded(palette, "PNG", transparency=bytes(range(256))),
        "1-bit png": encoded(drawn("1", 61, 47), "PNG"),
        "16-bit png": encoded(drawn("I;16", 61, 47), "PNG"),
        "16-bit tiff": encoded(drawn("I;16", 61, 47), "TIFF"),
        "packed tiff": encoded(rgb, "TIFF", compression="tiff_lzw"),
        "animated gif": encoded(rgb, "GIF", **frames),
        "gif": encoded(rgb, "GIF"),
        "animated webp": encoded(rgb, "WEBP", **frames),
        "webp": encoded(rgb, "WEBP"),
        "bmp": encoded(rgb, "BMP"),
        "ppm": encoded(rgb, "PPM"),
        "jpeg 2000": encoded(rgb, "JPEG2000"),
        "avif": encoded(rgb, "AVIF"),
        "tga": encoded(rgb, "TGA"),
        "packed tga": encoded(drawn("RGBA", 61, 47), "TGA", compression="tga_rle"),
        "pcx": encoded(rgb, "PCX"),
        "sgi": encoded(rgb, "SGI"),
        "icon": encoded(drawn("RGBA", 48, 48), "ICO", sizes=[(48, 48)]),
        "apple icon": encoded(drawn("RGBA", 64, 64), "ICNS"),
        "dds": encoded(drawn("RGBA", 61, 47), "DDS"),
        "qoi": encoded(rgb, "QOI"),
        "im": encoded(rgb, "IM"),
        "msp": encoded(drawn("1", 61, 47), "MSP"),
        "xbm": encoded(drawn("1", 61, 47), "XBM"),
        "blp": encoded(palette, "BLP"),
        "pgm": encoded(drawn("L", 61, 47), "PPM"),
        "pbm": encoded(drawn("1", 61, 47), "PPM"),
        "plain ppm": b"P3 # a comment\n3 2\n255\n" + b" ".join(b"%d" % (9 * i) for i in range(18)),
    }


@cache
def plugged() -> dict[str, tuple[bytes, Image.Image]]:
    """Files of types that plug-ins decode, and the picture that each was made of."""
    from pillow_heif import from_pillow
    from pillow_jxl import JpegXLImagePlugin  # noqa: F401

    smooth = drawn("RGB", 12, 9).resize((122, 94), Image.Resampling.BICUBIC)
    alpha = smooth.copy()
    alpha.putalpha(drawn("L", 12, 9).resize(alpha.size, Image.Resampling.BICUBIC))
    result: dict[str, tuple[bytes, Image.Image]] = {}
    for name, source in {"colour": smooth, "alpha": alpha, "grey": smooth.convert("L")}.items():
        file = io.BytesIO()
        from_pillow(source).save(file, quality=95)
        result[f"heic, {name}"] = file.getvalue(), source
        result[f"jpeg xl, {name}"] = encoded(source, "JXL", quality=95), source
    result["jpeg xl, boxed"] = encoded(smooth, "JXL", quality=95, use_container=True), smooth
    result["jpeg xl, lossless"] = encoded(smooth, "JXL", lossless=True), smooth
    return result
