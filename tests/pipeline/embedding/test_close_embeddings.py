"""The close way of decoding gives the embeddings of the exact one: cosine at least 0.99999 for every image."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from clipmill.clipmodel import load
from clipmill.pipeline.embedding.decode import Decoder
from clipmill.pipeline.embedding.encoder import ClipEncoder
from clipmill.pipeline.records import Sample
from picture_kit import files
from PIL import Image, ImageDraw

COUNT = 2000
LEAST = 0.99999
KINDS: list[tuple[str, dict[str, Any]]] = [
    ("JPEG", {"quality": 85}),
    ("JPEG", {"quality": 60, "subsampling": 1}),
    ("JPEG", {"quality": 95, "subsampling": 0}),
    ("JPEG", {"progressive": True}),
    ("PNG", {}),
    ("WEBP", {"quality": 80}),
    ("WEBP", {"lossless": True}),
    ("GIF", {}),
    ("BMP", {}),
    ("TIFF", {}),
]
MODES = ("RGB", "RGB", "RGB", "L", "P", "RGBA", "CMYK")


def picture(seed: int) -> bytes:
    """Photo-like noise, flat shapes or text-like lines, of any size and mode that its format has."""
    random = np.random.default_rng(seed)
    width, height = (int(side) for side in random.integers(40, 360, 2))
    coarse = random.integers(0, 256, (height // 16 + 2, width // 16 + 2, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    if seed % 3 == 0:
        grain = np.asarray(image, np.float64) + random.normal(0, 8, (height, width, 3))
        image = Image.fromarray(np.clip(grain, 0, 255).astype(np.uint8))
    if seed % 3 == 1:
        draw = ImageDraw.Draw(image)
        for _ in range(12):
            box = sorted(random.integers(0, width, 2).tolist()), sorted(random.integers(0, height, 2).tolist())
            draw.rectangle(
                (box[0][0], box[1][0], box[0][1], box[1][1]), fill=tuple(random.integers(0, 256, 3).tolist())
            )
    kind, options = KINDS[seed % len(KINDS)]
    mode = MODES[seed % len(MODES)]
    if (mode, kind) not in {("CMYK", "JPEG"), ("CMYK", "TIFF"), ("P", "PNG"), ("P", "GIF"), ("RGBA", "PNG")}:
        mode = "L" if mode == "L" and kind != "WEBP" else "RGB"
    file = io.BytesIO()
    image.convert(mode).save(file, kind, **options)
    return file.getvalue()


def test_every_image_of_two_thousand_has_the_same_embedding() -> None:
    model = load("tiny")
    encoder = ClipEncoder(model.model, batch_size=64)
    pictures = [*files().values(), *(picture(seed) for seed in range(COUNT))]
    least, compared, differ = 1.0, 0, 0
    for start in range(0, len(pictures), 64):
        samples = [Sample(i, str(i), image) for i, image in enumerate(pictures[start : start + 64])]
        ways = []
        for decoding in ("exact", "close"):
            preprocess = type(model.preprocess)(model.preprocess.size, model.preprocess.config, decoding)
            ways.append(Decoder(preprocess, None).decode_batch(samples))
        assert [row.error for row in ways[0]] == [row.error for row in ways[1]]
        pixels = [[row.pixels for row in rows if row.pixels is not None] for rows in ways]
        exact, close = (encoder.encode(images, [])[0] for images in pixels)
        least = min(least, float((exact * close).sum(axis=1).min()))
        compared += len(exact)
        differ += sum(not np.array_equal(one, other) for one, other in zip(*pixels, strict=True))
    assert compared >= COUNT and differ > COUNT // 3
    assert least >= LEAST
