"""A model of transformers in clipmill's encoder, against the library's own loop over batches of 32.

Both get the same decoded images and the same token ids. The library's loop takes captions as they come, each batch
padded to its longest; ours sorts them by length.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import benchkit
import numpy as np
import torch
from benchkit import Row
from torch.nn.functional import normalize

sys.path.insert(0, str(Path(__file__).parent.parent / "kit"))  # for `adapted_kit`, which the tests share

import adapted_kit
from clipmill.clipmodel.models import load
from clipmill.clipmodel.preprocess import normalise
from clipmill.pipeline.embedding.encoder import encoder_of
from vocabulary_kit import captions

BATCH, IMAGES, CAPTIONS, ROUNDS = 32, 64, 256, 7
SIZES = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 4, "num_attention_heads": 12}


def measure(quick: bool) -> list[Row]:
    torch.set_num_threads(1 if quick else 2)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        model = adapted_kit.chinese_clip(folder) if quick else adapted_kit.chinese_clip(folder, 96, **SIZES)
        model.save_pretrained(folder)
        loaded = load(f"hf:{folder}")
    random, size = np.random.default_rng(0), loaded.model.blank.shape
    images = list(random.integers(0, 256, (4 if quick else IMAGES, *size), dtype=np.uint8))
    texts = captions()[: 8 if quick else CAPTIONS]
    ids = [loaded.tokenizer.truncate(row) for row in loaded.tokenizer.encode(texts)]
    encoder, inner, config = encoder_of(loaded.model), loaded.model.inner, loaded.preprocess.config

    @torch.inference_mode()
    def of_images() -> None:
        for start in range(0, len(images), BATCH):
            pixels = normalise(torch.from_numpy(np.stack(images[start : start + BATCH])), config)
            normalize(inner.get_image_features(pixel_values=pixels).pooler_output, dim=-1).numpy()

    @torch.inference_mode()
    def of_texts() -> None:
        for start in range(0, len(ids), BATCH):
            normalize(inner.get_text_features(**_batch(ids[start : start + BATCH])).pooler_output, dim=-1).numpy()

    rounds = 2 if quick else ROUNDS
    ours = {"images": lambda: encoder.encode(images, []), "captions": lambda: encoder.encode([], ids)}
    theirs = {"images": of_images, "captions": of_texts}
    counts = {"images": len(images), "captions": len(ids)}
    return [_row(side, count, ours[side], theirs[side], rounds) for side, count in counts.items()]


def _batch(rows: list[Any]) -> dict[str, torch.Tensor]:
    longest = max(map(len, rows))
    padded = np.stack([np.pad(row, (0, longest - len(row))) for row in rows]).astype(np.int64)
    mask = np.stack([np.arange(longest) < len(row) for row in rows]).astype(np.int64)
    return {"input_ids": torch.from_numpy(padded), "attention_mask": torch.from_numpy(mask)}


def _row(side: str, count: int, ours: Callable[[], Any], theirs: Callable[[], Any], rounds: int) -> Row:
    for warm in (ours, theirs):
        warm()
    turns = {"ours": lambda: _rate(ours, count), "transformers": lambda: _rate(theirs, count)}
    return benchkit.compared(f"adapter, {side} of a Chinese-CLIP", f"{side}/s", benchkit.in_turn(turns, rounds))


def _rate(do: Callable[[], Any], count: int) -> float:
    began = time.perf_counter()
    do()
    return count / (time.perf_counter() - began)


if __name__ == "__main__":
    benchkit.main(measure)
