"""What encoding does for GPUs, as far as a machine without one can show: compiled blocks, batches of one size, results
that come late, memory that is reused, and room that is found. `test_cuda.py` is the rest."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from clipmill.clipmodel.config import CLIPConfig, TextConfig, VisionConfig
from clipmill.clipmodel.model import CLIP
from clipmill.clipmodel.weights import random_weights
from clipmill.pipeline.embedding import cuda_feed
from clipmill.pipeline.embedding.cuda_feed import CudaFeed
from clipmill.pipeline.embedding.device_memory import images_that_fit
from clipmill.pipeline.embedding.encoder import ClipEncoder, Vectors
from clipmill.pipeline.embedding.feed import HostFeed
from clipmill.pipeline.records import Pixels, TokenIds
from torch import Tensor, nn

CONFIG = CLIPConfig(64, VisionConfig(32, 64, 3, 16), TextConfig(64, 1, 3, vocab_size=512), "quick_gelu")


@pytest.fixture
def model() -> CLIP:
    """Random, and sharp enough to tell inputs apart."""
    model = random_weights(CONFIG).eval().requires_grad_(False)
    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.weight.mul_(4)
    return model


@pytest.fixture
def images() -> list[Pixels]:
    return list(np.random.default_rng(0).integers(0, 256, (11, 32, 32, 3), dtype=np.uint8))


@pytest.fixture
def texts() -> list[TokenIds]:
    random = np.random.default_rng(1)
    lengths = [3, 8, 9, 20, 40, 77, 5, 76, 3, 16, 24]
    return [np.array([510, *random.integers(1, 500, n - 2), 511], dtype=np.int32) for n in lengths]


def assert_same(found: tuple[Vectors, Vectors], expected: tuple[Vectors, Vectors]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape and (one * other).sum(axis=1).min() > 0.99999
        apart = (other @ other.T)[np.triu_indices(len(other), 1)]
        assert apart.max() < 0.999  # or being the same would say nothing


# --- compiled ---


@pytest.mark.parametrize("backend", ["aot_eager"])
def test_compiled_blocks_say_the_same(model: CLIP, images: list[Pixels], texts: list[TokenIds], backend: str) -> None:
    torch._dynamo.reset()
    expected = ClipEncoder(model, batch_size=4).encode(images, texts)
    assert_same(ClipEncoder(model, batch_size=4, compile_with=backend).encode(images, texts), expected)


def test_compiled_models_see_batches_of_one_size_and_captions_of_few_lengths(
    model: CLIP, images: list[Pixels], texts: list[TokenIds]
) -> None:
    seen: list[tuple[int, ...]] = []
    model.visual.get_submodule("ln_pre").register_forward_hook(lambda _, __, out: seen.append(tuple(out.shape)))
    model.token_embedding.register_forward_hook(lambda _, __, out: seen.append(tuple(out.shape)))
    encoder = ClipEncoder(model, batch_size=4, compile_with="eager")
    seen.clear()
    encoder.encode(images, texts)
    assert [shape for shape in seen if shape[1] == 5] == [(4, 5, 64)] * 3
    captions = [shape for shape in seen if shape[1] != 5]
    assert {length for _, length, _ in captions} <= {*range(8, 77, 8), 77} and all(n % 8 == 0 for n, _, _ in captions)


def test_one_block_is_compiled_for_each_tower(model: CLIP, images: list[Pixels], texts: list[TokenIds]) -> None:
    torch._dynamo.reset()
    graphs: list[object] = []

    def counting(graph: torch.fx.GraphModule, _: Sequence[Tensor]) -> Callable[..., Any]:
        graphs.append(graph)
        return graph.forward

    torch._dynamo.register_backend(counting, name="counting")
    encoder = ClipEncoder(model, batch_size=4, compile_with="counting")
    encoder.encode(images, texts)
    encoder.encode(images[:3], texts[:5])
    assert len(graphs) == 2


def test_a_backend_that_fails_costs_speed_and_nothing_else(
    model: CLIP, images: list[Pixels], texts: list[TokenIds], caplog: pytest.LogCaptureFixture
) -> None:
    torch._dynamo.reset()

    def broken(*_: object) -> Callable[..., Any]:
        raise RuntimeError("no compiler here")

    torch._dynamo.register_backend(broken, name="broken")
    with caplog.at_level(logging.WARNING):
        encoder = ClipEncoder(model, batch_size=4, compile_with="broken")
    assert "no compiler here" in caplog.text
    assert_same(encoder.encode(images, texts), ClipEncoder(model).encode(images, texts))


# --- late ---


class LateFeed(HostFeed):
    """Results are there only when they are asked for, and inputs are gone by then."""

    def __init__(self) -> None:
        self.loaded: list[Tensor] = []
        self.open = 0

    def load(self, rows: Sequence[Any], count: int) -> Tensor:
        self.loaded.append(super().load(rows, count))
        return self.loaded[-1]

    def fetch(self, result: Tensor) -> Callable[[], Vectors]:
        self.loaded[-1].zero_()
        self.open += 1

        def late() -> Vectors:
            self.open -= 1
            vectors: Vectors = result.numpy()
            return vectors

        return late


def test_results_are_awaited_after_all_passes_are_launched(
    model: CLIP, images: list[Pixels], texts: list[TokenIds]
) -> None:
    encoder, feed = ClipEncoder(model, batch_size=2), LateFeed()
    encoder._feed = feed
    most = 0
    gathered = encoder._gathered

    def watched(results: Sequence[Any]) -> Vectors:
        nonlocal most
        most = max(most, feed.open)
        return gathered(results)

    encoder._gathered = watched  # type: ignore[method-assign]
    assert_same(encoder.encode(images, texts), ClipEncoder(model).encode(images, texts))
    assert most == len(feed.loaded) > 6 and feed.open == 0


# --- pinned memory, on a device that is not there ---


class FakeEvent:
    waits: list[FakeEvent]  # those that somebody waited for, in order
    recorded = 0.0

    def __init__(self, enable_timing: bool = False) -> None:
        self.times = enable_timing

    def record(self, stream: object = None) -> None:
        FakeEvent.recorded += 250.0
        self.at = FakeEvent.recorded

    def elapsed_time(self, end: FakeEvent) -> float:
        assert self.times and end.times
        return end.at - self.at

    def synchronize(self) -> None:
        self.waits.append(self)


class FakeStream:
    def __init__(self, device: object = None) -> None: ...

    def wait_event(self, event: FakeEvent) -> None:
        assert isinstance(event, FakeEvent)

    def record_event(self) -> FakeEvent:
        return FakeEvent()


@pytest.fixture
def feed(monkeypatch: pytest.MonkeyPatch) -> CudaFeed:
    """A feed whose device is this machine's memory."""
    FakeEvent.waits = []
    stream = FakeStream()

    def entered(_: object) -> AbstractContextManager[None]:
        return nullcontext()

    def empty(*size: Any, pin_memory: bool = False, **kind: Any) -> Tensor:
        return torch.empty(*size, **kind)

    cuda = SimpleNamespace(Event=FakeEvent, Stream=FakeStream, stream=entered, current_stream=lambda _: stream)
    fake = SimpleNamespace(cuda=cuda, empty=empty, uint8=torch.uint8, from_numpy=torch.from_numpy)
    monkeypatch.setattr(cuda_feed, "torch", fake)
    monkeypatch.setattr(Tensor, "record_stream", lambda *_: None)
    return CudaFeed(torch.device("cpu"))


def test_rows_arrive_filled_up_with_zeros(feed: CudaFeed) -> None:
    for kind in (np.uint8, np.int64):
        rows = [np.full((2, 3), i + 1, kind) for i in range(3)]
        loaded = feed.load(rows, 5)
        assert loaded.shape == (5, 2, 3) and loaded.numpy().dtype == kind
        assert loaded[:, 0, 0].tolist() == [1, 2, 3, 0, 0]


def test_the_time_in_which_the_device_computed_is_told_once_its_result_is_taken(feed: CudaFeed) -> None:
    busy: list[float] = []
    feed._on_busy = busy.append
    one = feed.fetch(feed.load([np.ones(4, np.float32)], 1))
    other = feed.fetch(torch.ones(1, 4))  # which was on the device before
    assert not busy
    one(), other()
    assert busy == [0.25]


def test_memory_is_used_again_in_turn_and_never_before_it_was_copied(feed: CudaFeed) -> None:
    slots = list(feed._slots)
    places = []
    for i in range(7):
        loaded = feed.load([np.full(4, i, np.uint8)], 1)
        assert FakeEvent.waits[-1] is slots[i % 3].copied
        places.append(loaded.data_ptr())
    assert len(set(places)) == 3 and places[:3] == places[3:6]


def test_no_more_than_three_passes_are_under_way(feed: CudaFeed) -> None:
    late = deque(feed.fetch(feed.load([np.ones(4, np.float32)], 1)) for _ in range(3))
    arrived = list(feed._under_way)
    assert not set(arrived) & set(FakeEvent.waits)
    late.append(feed.fetch(feed.load([np.ones(4, np.float32)], 1)))
    assert arrived[0] in FakeEvent.waits and arrived[1] not in FakeEvent.waits
    assert all(np.array_equal(result(), np.ones((1, 4), np.float32)) for result in late)


# --- room ---


@pytest.mark.parametrize(
    ("each", "fixed", "free", "images"),
    [
        (10, 0, 20 * 64, 64),
        (10, 0, 20 * 64 - 1, 32),
        (10, 1000, 20 * 64, 1),  # what does not grow with the batch counts too
        (10, 320, 2 * (320 + 640), 64),
        (10, 0, 10**9, 512),
        (10, 0, 0, 1),
        (0, 0, 10**9, 512),
    ],
)
def test_as_many_images_as_half_of_the_free_memory_holds(each: int, fixed: int, free: int, images: int) -> None:
    assert images_that_fit(lambda n: fixed + n * each, free) == images


def test_without_a_gpu_the_batch_size_has_a_default(model: CLIP) -> None:
    assert ClipEncoder(model, batch_size=None).batch_size == 32
    assert ClipEncoder(model, batch_size=7).batch_size == 7
