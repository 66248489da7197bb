"""SigLIP through the encoder: captions keep their padding, whatever the batch and however long they are."""

from __future__ import annotations

import pytest
import siglip_kit
import torch
from clipmill.clipmodel.vocabulary import PieceTokenizer
from clipmill.clipmodel.zeroshot import classifier
from clipmill.pipeline.embedding.encoder import ClipEncoder
from random_models import random_clip
from torch.nn.functional import normalize

CONFIG = siglip_kit.narrow("ViT-B-16-SigLIP", image_size=64)
TEXTS = ["a cat", "a", "a very long caption " * 20, "a dog on a red chair", "a cat"]


@pytest.mark.parametrize("batch_size", [1, 32])
@pytest.mark.parametrize("compile_with", [None, "eager"])
def test_embeddings_are_those_of_padded_captions(batch_size: int, compile_with: str | None) -> None:
    model, tokenizer = random_clip(CONFIG), PieceTokenizer(CONFIG.text, None)
    encoder = ClipEncoder(model, batch_size=batch_size, compile_with=compile_with)
    _, texts = encoder.encode([], [tokenizer.truncate(ids) for ids in tokenizer.encode(TEXTS)])
    expected = normalize(model.encode_text(tokenizer(TEXTS)), dim=-1)
    assert (torch.from_numpy(texts) - expected).abs().max() < 1e-5
    assert expected[0] @ expected[1] < 0.999


def test_classes_are_read_from_padded_prompts() -> None:
    model, tokenizer = random_clip(CONFIG), PieceTokenizer(CONFIG.text, None)
    vectors = classifier(model, tokenizer, ["cat", "very long name of a dog"], ["a {}"])
    expected = normalize(model.encode_text(tokenizer(["a cat", "a very long name of a dog"])), dim=-1)
    assert (vectors - expected).abs().max() < 1e-5
