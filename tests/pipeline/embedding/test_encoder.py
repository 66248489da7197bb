"""The CLIP encoder gives each input its own embedding, however inputs are batched, ordered and padded."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from clipmill.clipmodel import load
from clipmill.clipmodel.model import CLIP
from clipmill.clipmodel.weights import Loaded
from clipmill.jobs.drawn.pairs import Pair, PairSpec, pair_of
from clipmill.pipeline.embedding.batches import pad
from clipmill.pipeline.embedding.encoder import ClipEncoder, Vectors
from clipmill.pipeline.records import Pixels, TokenIds
from torch import Tensor


@pytest.fixture(scope="module")
def pairs() -> list[Pair]:
    return [pair_of(PairSpec(seed=3), index) for index in range(20)]


@pytest.fixture(scope="module")
def images(pairs: list[Pair], sharp: Loaded) -> list[Pixels]:
    return [sharp.preprocess(pair.image) for pair in pairs]


@pytest.fixture(scope="module")
def captions(pairs: list[Pair]) -> list[str]:
    """Of every length, the longest being cut; in no order."""
    return [" ".join([pair.caption] * (1 + i * 7 % 5)) for i, pair in enumerate(pairs)] + ["a", "", "word " * 100]


@pytest.fixture(scope="module")
def texts(captions: list[str], sharp: Loaded) -> list[TokenIds]:
    rows = [sharp.tokenizer.truncate(ids) for ids in sharp.tokenizer.encode(captions)]
    assert len({len(ids) for ids in rows}) > 5 and max(map(len, rows)) == 77
    return rows


@pytest.fixture
def calls(sharp: Loaded) -> Iterator[list[tuple[int, ...]]]:
    """The shapes that the text transformer is given."""
    seen: list[tuple[int, ...]] = []
    embedding = sharp.model.token_embedding
    handle = embedding.register_forward_pre_hook(lambda _, args: seen.append(tuple(args[0].shape)))
    yield seen
    handle.remove()


def cosines(one: Vectors, other: Vectors) -> np.ndarray:
    cosine: np.ndarray = (one * other).sum(axis=1)
    return cosine


def assert_same(one: Vectors, other: Vectors) -> None:
    assert one.shape == other.shape
    assert cosines(one, other).min() >= 0.99999


def test_the_inputs_can_be_told_apart(sharp: Loaded, images: list[Pixels], texts: list[TokenIds]) -> None:
    """Or nothing below would mean anything."""
    for vectors in ClipEncoder(sharp.model).encode(images, texts):
        apart = (vectors @ vectors.T)[np.triu_indices(len(vectors), 1)]
        assert np.median(apart) < 0.9 and apart.max() < 0.99995


def test_embeddings_are_what_the_model_says(sharp: Loaded, captions: list[str], images: list[Pixels]) -> None:
    """The captions padded to the context length, the images one by one, without any of the encoder's doing."""
    mean, std = (
        torch.tensor(value).view(3, 1, 1) for value in (sharp.preprocess.config.mean, sharp.preprocess.config.std)
    )
    alone = [(torch.from_numpy(each).permute(2, 0, 1).float() / 255 - mean) / std for each in images]
    with torch.inference_mode():
        expected_images = torch.cat([F.normalize(sharp.model.encode_image(pixels[None]), dim=-1) for pixels in alone])
        padded = sharp.tokenizer(captions)
        assert padded.shape[1] == 77
        expected_texts = F.normalize(sharp.model.encode_text(padded), dim=-1)
    rows = [sharp.tokenizer.truncate(ids) for ids in sharp.tokenizer.encode(captions)]
    got_images, got_texts = ClipEncoder(sharp.model, batch_size=5).encode(images, rows)
    assert_same(got_images, expected_images.numpy())
    assert_same(got_texts, expected_texts.numpy())


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_the_batch_size_changes_nothing(
    sharp: Loaded, images: list[Pixels], texts: list[TokenIds], batch_size: int
) -> None:
    expected = ClipEncoder(sharp.model, batch_size=32).encode(images, texts)
    got = ClipEncoder(sharp.model, batch_size=batch_size).encode(images, texts)
    for one, other in zip(got, expected, strict=True):
        assert_same(one, other)


def test_embeddings_come_in_the_order_of_the_inputs(sharp: Loaded, images: list[Pixels], texts: list[TokenIds]) -> None:
    encoder = ClipEncoder(sharp.model, batch_size=2)
    image_vectors, text_vectors = encoder.encode(images, texts)
    order = np.random.default_rng(1).permutation(len(images))
    text_order = np.random.default_rng(2).permutation(len(texts))
    shuffled = encoder.encode([images[i] for i in order], [texts[i] for i in text_order])
    assert_same(shuffled[0], image_vectors[order])
    assert_same(shuffled[1], text_vectors[text_order])


def test_captions_are_cut_at_the_longest_of_their_batch(
    sharp: Loaded, texts: list[TokenIds], calls: list[tuple[int, ...]]
) -> None:
    ClipEncoder(sharp.model, batch_size=1).encode([], texts)
    lengths = sorted(len(ids) for ids in texts)
    ends = np.cumsum([rows for rows, _ in calls])
    assert ends[-1] == len(texts)
    assert [longest for _, longest in calls] == [lengths[end - 1] for end in ends]


def test_short_captions_go_in_large_batches(sharp: Loaded, texts: list[TokenIds], calls: list[tuple[int, ...]]) -> None:
    short = [np.array([4094, i + 1, 4095], dtype=np.int32) for i in range(100)]
    long = [np.array([4094, i + 1, *[7] * 74, 4095], dtype=np.int32) for i in range(3)]
    ClipEncoder(sharp.model, batch_size=4).encode([], [*long, *short])
    assert calls == [(64, 3), (36, 3), (2, 77), (1, 77)]  # 192 tokens a pass


def test_equal_captions_are_encoded_once(sharp: Loaded, texts: list[TokenIds], calls: list[tuple[int, ...]]) -> None:
    one, other = texts[0], texts[1]
    _, vectors = ClipEncoder(sharp.model).encode([], [one, other, one.copy(), one, other])
    assert [shape[0] for shape in calls] == [2]
    for place, same in ((2, 0), (3, 0), (4, 1)):
        np.testing.assert_array_equal(vectors[place], vectors[same])
    assert not np.array_equal(vectors[0], vectors[1])


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_embeddings_are_float32_and_of_length_one(
    sharp: Loaded, images: list[Pixels], texts: list[TokenIds], precision: str
) -> None:
    encoder = ClipEncoder(sharp.model, precision=precision)  # type: ignore[arg-type]
    for vectors in encoder.encode(images, texts):
        assert vectors.dtype == np.float32 and vectors.shape[1] == encoder.dim == 256
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_bfloat16_is_used_and_is_close(sharp: Loaded, images: list[Pixels], texts: list[TokenIds]) -> None:
    """Not very close for images: what `sharp` leaves of them is the small rest that they do not have in common."""
    exact = ClipEncoder(sharp.model).encode(images, texts)
    rough = ClipEncoder(sharp.model, precision="bf16").encode(images, texts)
    for one, other, least in zip(rough, exact, (0.9, 0.999), strict=True):
        assert least < cosines(one, other).min() < 0.99999


def test_autocast_ends_with_the_call(sharp: Loaded, images: list[Pixels]) -> None:
    ClipEncoder(sharp.model, precision="bf16").encode(images[:1], [])
    assert not torch.is_autocast_enabled("cpu")
    assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()


def test_either_side_may_be_empty(sharp: Loaded, images: list[Pixels], texts: list[TokenIds]) -> None:
    encoder = ClipEncoder(sharp.model)
    for some_images, some_texts in ((images[:2], []), ([], texts[:2]), ([], [])):
        image_vectors, text_vectors = encoder.encode(some_images, some_texts)
        assert image_vectors.shape == (len(some_images), 256) and text_vectors.shape == (len(some_texts), 256)
        assert image_vectors.dtype == text_vectors.dtype == np.float32


def test_threads_may_share_an_encoder(sharp: Loaded, images: list[Pixels], texts: list[TokenIds]) -> None:
    encoder = ClipEncoder(sharp.model, precision="bf16", batch_size=4)
    expected = encoder.encode(images, texts)
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda _: encoder.encode(images, texts), range(3)))
    for answer in answers:
        for one, other in zip(answer, expected, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-6)


def test_padding_is_zeros_on_the_right() -> None:
    padded: Tensor = pad([np.array([5, 9], dtype=np.int32), np.array([5, 6, 7, 9], dtype=np.int32)])
    assert padded.dtype == torch.int64
    assert padded.tolist() == [[5, 9, 0, 0], [5, 6, 7, 9]]


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("[enforce fail] DefaultCPUAllocator: can't")]
)
def test_when_memory_runs_out_the_batch_is_halved_and_nothing_is_lost(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load("tiny=random").model
    pixels = list(np.random.default_rng(0).integers(0, 256, (11, 96, 96, 3), dtype=np.uint8))
    expected, _ = ClipEncoder(model, batch_size=2).encode(pixels, [])
    whole, tried = type(model).encode_image, []

    def little_memory(self: CLIP, batch: torch.Tensor) -> torch.Tensor:
        tried.append(len(batch))
        if len(batch) > 2:
            raise error
        return whole(self, batch)

    monkeypatch.setattr(CLIP, "encode_image", little_memory)
    encoder = ClipEncoder(model, batch_size=8)
    np.testing.assert_allclose(encoder.encode(pixels, [])[0], expected, atol=1e-5)
    assert tried == [8, 4, *[2] * 5, 1]
    tried.clear()
    encoder.encode(pixels, [])
    assert tried == [*[2] * 5, 1]  # it learns


def test_memory_that_does_not_suffice_for_one_and_other_errors_are_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = ClipEncoder(load("tiny=random").model, batch_size=4)
    image = np.zeros((96, 96, 3), dtype=np.uint8)
    for error in (torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("shapes do not match")):

        def fails(_: CLIP, __: torch.Tensor, error: Exception = error) -> torch.Tensor:
            raise error

        monkeypatch.setattr(CLIP, "encode_image", fails)
        with pytest.raises(RuntimeError, match=str(error)):
            encoder.encode([image] * 4, [])
