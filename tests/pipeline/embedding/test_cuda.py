"""Encoding on a GPU, where there is one: the same answers as on the CPU, however it is driven."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import get_args

import numpy as np
import pytest
import torch
from clipmill.clipmodel.config import VARIANTS
from clipmill.clipmodel.weights import Loaded, load
from clipmill.pipeline.choices import Precision
from clipmill.pipeline.embedding.cuda_feed import CudaFeed
from clipmill.pipeline.embedding.encoder import ClipEncoder, Vectors, backend_for
from clipmill.pipeline.records import Pixels, TokenIds
from torch import nn

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU that torch can use")

LEAST = {"fp32": 0.99999, "bf16": 0.999, "fp16": 0.999}  # cosine with float32 on the CPU


@torch.no_grad()
def sharp(device: str) -> Loaded:
    """Random weights, larger than a fresh model's, to which all images are nearly the same."""
    loaded = load("ViT-B/32=random", device=device)
    for module in loaded.model.modules():
        if isinstance(module, nn.Linear):
            module.weight.mul_(3)
    return loaded


@pytest.fixture(scope="module")
def b32() -> Loaded:
    return sharp("cuda")


@pytest.fixture(scope="module")
def images() -> list[Pixels]:
    return list(np.random.default_rng(0).integers(0, 256, (37, 224, 224, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def texts() -> list[TokenIds]:
    random = np.random.default_rng(1)
    return [np.array([49406, *random.integers(1, 49000, n % 76), 49407], dtype=np.int32) for n in range(90)]


@pytest.fixture(scope="module")
def expected(images: list[Pixels], texts: list[TokenIds]) -> tuple[Vectors, Vectors]:
    return ClipEncoder(sharp("cpu").model).encode(images, texts)


@pytest.mark.parametrize("precision", get_args(Precision))
@pytest.mark.parametrize("compiled", [False, True])
def test_embeddings_are_the_cpus(
    b32: Loaded,
    images: list[Pixels],
    texts: list[TokenIds],
    expected: tuple[Vectors, Vectors],
    precision: Precision,
    compiled: bool,
) -> None:
    backend = backend_for(VARIANTS["ViT-B/32"], "cuda") if compiled else None
    encoder = ClipEncoder(b32.model, "cuda", precision, 16, compile_with=backend)
    for one, other in zip(encoder.encode(images, texts), expected, strict=True):
        assert (one * other).sum(axis=1).min() > LEAST[precision]


def test_threads_that_share_an_encoder_get_their_own(
    b32: Loaded, images: list[Pixels], texts: list[TokenIds], expected: tuple[Vectors, Vectors]
) -> None:
    encoder = ClipEncoder(b32.model, "cuda", "fp32", 4)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: encoder.encode(images, texts), range(12)))
    for answer in answers:
        for one, other in zip(answer, expected, strict=True):
            assert (one * other).sum(axis=1).min() > 0.99999


def test_the_batch_size_is_found_and_works(b32: Loaded, images: list[Pixels]) -> None:
    encoder = ClipEncoder(b32.model, "cuda", "bf16", None)
    assert encoder.batch_size in {2**n for n in range(10)}
    encoder.encode(images * (encoder.batch_size // len(images) + 1), [])


def test_what_is_copied_is_not_overwritten_before() -> None:
    feed = CudaFeed(torch.device("cuda"))
    rows = [np.full((64, 1 << 16), i, np.float32) for i in range(12)]
    with torch.inference_mode():
        late = [feed.fetch(feed.load([each], 2)[:1] * 2) for each in rows]
    for i, result in enumerate(late):
        assert (result() == 2 * i).all()
