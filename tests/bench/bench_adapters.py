"""Other libraries' models in clipmill's encoder, against those libraries' own loops over batches of 32.

Both get the same decoded images and the same token ids. The loops take captions as they come, transformers' each batch
padded to its longest; ours sorts them by length. open_clip pads all captions.
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import benchkit
import numpy as np
import torch
from benchkit import Row
from torch import Tensor
from torch.nn.functional import normalize

sys.path.insert(0, str(Path(__file__).parent.parent / "kit"))  # for the small models, which the tests share

import adapted_kit
import open_clip_kit
from clipmill.clipmodel.adapters.card import Adapted
from clipmill.clipmodel.models import load
from clipmill.clipmodel.preprocess import normalise
from clipmill.pipeline.embedding.encoder import encoder_of
from vocabulary_kit import captions

BATCH, IMAGES, CAPTIONS, ROUNDS = 32, 64, 256, 7
SIZE, WIDTH, LAYERS = 96, 768, 4
SIZES = {"hidden_size": WIDTH, "intermediate_size": 3072, "num_hidden_layers": LAYERS, "num_attention_heads": 12}


@dataclass(frozen=True)
class Theirs:
    """A model as its library runs it."""

    library: str
    what: str
    loaded: Adapted
    of_pixels: Callable[[Tensor], Tensor]
    of_ids: Callable[[Sequence[Any]], Tensor]


def measure(quick: bool) -> list[Row]:
    torch.set_num_threads(1 if quick else 2)
    libraries = [_chinese_clip, _open_clip_vit] if open_clip_kit.FOLDER.is_dir() else [_chinese_clip]
    return [row for library in libraries for row in _rows(library(quick), quick)]


def _chinese_clip(quick: bool) -> Theirs:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        model = adapted_kit.chinese_clip(folder) if quick else adapted_kit.chinese_clip(folder, SIZE, **SIZES)
        model.save_pretrained(folder)
        loaded = load(f"hf:{folder}")
    inner = loaded.model.inner

    def of_ids(rows: Sequence[Any]) -> Tensor:
        longest = max(map(len, rows))
        padded = np.stack([np.pad(row, (0, longest - len(row))) for row in rows]).astype(np.int64)
        mask = np.stack([np.arange(longest) < len(row) for row in rows]).astype(np.int64)
        tokens = {"input_ids": torch.from_numpy(padded), "attention_mask": torch.from_numpy(mask)}
        return inner.get_text_features(**tokens).pooler_output

    def of_pixels(pixels: Tensor) -> Tensor:
        return inner.get_image_features(pixel_values=pixels).pooler_output

    return Theirs("transformers", "a Chinese-CLIP", loaded, of_pixels, of_ids)


def _open_clip_vit(quick: bool) -> Theirs:
    open_clip_kit.library()
    logging.getLogger().setLevel(logging.ERROR)  # to which it says what it does
    with tempfile.TemporaryDirectory() as place:
        folder = open_clip_kit.save("vit", Path(place) / "vit")
        if not quick:
            path = folder / "open_clip_config.json"
            settings = json.loads(path.read_text())
            settings["model_cfg"]["vision_cfg"].update(image_size=SIZE, width=WIDTH, layers=LAYERS, head_width=64)
            settings["model_cfg"]["text_cfg"].update(width=512, layers=LAYERS, heads=8)
            path.write_text(json.dumps(settings))
        loaded = load(f"open_clip:{folder}" + ("" if quick else "=random"))
    inner = loaded.model.inner
    return Theirs(
        "open_clip",
        "a ViT of open_clip",
        loaded,
        inner.encode_image,
        lambda rows: inner.encode_text(torch.from_numpy(np.stack(rows).astype(np.int64))),
    )


def _rows(theirs: Theirs, quick: bool) -> list[Row]:
    loaded = theirs.loaded
    random, size = np.random.default_rng(0), loaded.model.blank.shape
    images = list(random.integers(0, 256, (4 if quick else IMAGES, *size), dtype=np.uint8))
    texts = captions()[: 8 if quick else CAPTIONS]
    ids = [loaded.tokenizer.truncate(row) for row in loaded.tokenizer.encode(texts)]
    encoder, config = encoder_of(loaded.model), loaded.preprocess.config

    @torch.inference_mode()
    def of_images() -> None:
        for start in range(0, len(images), BATCH):
            pixels = normalise(torch.from_numpy(np.stack(images[start : start + BATCH])), config)
            normalize(theirs.of_pixels(pixels), dim=-1).numpy()

    @torch.inference_mode()
    def of_texts() -> None:
        for start in range(0, len(ids), BATCH):
            normalize(theirs.of_ids(ids[start : start + BATCH]), dim=-1).numpy()

    ways = {
        "images": (lambda: encoder.encode(images, []), of_images, len(images)),
        "captions": (lambda: encoder.encode([], ids), of_texts, len(ids)),
    }
    return [_row(theirs, side, *way, 2 if quick else ROUNDS) for side, way in ways.items()]


def _row(
    theirs: Theirs, side: str, ours: Callable[[], Any], their_own: Callable[[], Any], count: int, rounds: int
) -> Row:
    for warm in (ours, their_own):
        warm()
    turns = {"ours": lambda: _rate(ours, count), theirs.library: lambda: _rate(their_own, count)}
    return benchkit.compared(f"adapter, {side} of {theirs.what}", f"{side}/s", benchkit.in_turn(turns, rounds))


def _rate(do: Callable[[], Any], count: int) -> float:
    began = time.perf_counter()
    do()
    return count / (time.perf_counter() - began)


if __name__ == "__main__":
    benchkit.main(measure)
