"""Models of open_clip: vectors equal those of the library's own loop, and what cannot be run is refused."""

from __future__ import annotations

import json
import logging
import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import open_clip_kit
import pytest
import torch
from adapted_kit import cosines
from clipmill.clipmodel.adapters.images import ProcessedImages
from clipmill.clipmodel.errors import ModelError
from clipmill.clipmodel.models import describe, load, resolve
from clipmill.clipmodel.preprocess import Preprocess
from clipmill.clipmodel.zeroshot import classifier
from clipmill.pipeline.embedding.encoder import encoder_of
from open_clip_kit import CONTEXT, own_loop
from picture_kit import encoded
from PIL import Image

TEXTS = ["a cat", "", "a very long story of a dog and of another dog, " * 5, "猫 und ein Hund!", "A cat!! "]

Saved = Callable[[str], Path]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    open_clip_kit.library()
    root = tmp_path_factory.mktemp("open_clip")

    def folder(name: str) -> Path:
        return root / name if (root / name).exists() else open_clip_kit.save(name, root / name)

    return folder


def pictures() -> list[bytes]:
    """In several modes: open_clip resizes before it converts to RGB."""
    random = np.random.default_rng(1)
    sizes = ((70, 50), (60, 90), (64, 64), (200, 100))
    made = [Image.fromarray(random.integers(0, 256, (h, w, 3), dtype=np.uint8)) for w, h in sizes]
    grey_with_alpha = Image.merge("LA", [made[0].getchannel(0), made[0].getchannel(1)])
    return [encoded(image, "PNG") for image in (*made, made[1].quantize(16), grey_with_alpha)]


@pytest.mark.parametrize("name", open_clip_kit.MAKERS)
def test_vectors_are_those_of_the_librarys_own_loop(name: str, saved: Saved) -> None:
    loaded = load(f"open_clip:{saved(name)}")
    card = pickle.loads(pickle.dumps(loaded.card))
    assert card == loaded.card
    assert isinstance(card.images(), ProcessedImages if name == "coca" else Preprocess)
    rows = [card.texts().truncate(ids) for ids in card.texts().encode(TEXTS)]
    tokenizer = open_clip_kit.library().get_tokenizer(f"local-dir:{saved(name)}")
    assert np.array_equal(rows, tokenizer(TEXTS).numpy())
    images = [card.images().with_size(picture)[0] for picture in pictures()]
    ours = encoder_of(loaded.model, batch_size=4).encode(images, rows)
    theirs = own_loop(str(saved(name)), pictures(), TEXTS)
    for mine, expected in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, expected, atol=2e-5)
    for vectors, different in zip(theirs, (len(images), 4), strict=True):
        assert len({tuple(row) for row in vectors.round(3)}) >= different, "not all are alike"


@pytest.mark.parametrize(("name", "added"), [("vit", 2), ("siglip", 2), ("clipa", 2), ("openvision", 3)])
def test_captions_are_counted_before_they_are_cut(name: str, added: int, saved: Saved) -> None:
    texts = load(f"open_clip:{saved(name)}").card.texts()
    short, long = (len(ids) for ids in texts.encode(["a", "a " * 40]))
    assert (short, long) == (1 + added, 40 + added) and texts.context_length == CONTEXT
