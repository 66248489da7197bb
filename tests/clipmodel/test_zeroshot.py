"""Classifier vectors are what the paper's recipe gives, one prompt at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from clipmill.clipmodel import zeroshot
from clipmill.clipmodel.config import CLIPConfig, TextConfig, VisionConfig
from clipmill.clipmodel.templates import TEMPLATES
from clipmill.clipmodel.tokenizer import Tokenizer
from clipmill.clipmodel.zeroshot import background_share, class_vectors, classifier, probabilities, top_classes
from random_models import random_clip
from torch.nn.functional import normalize

CONFIG = CLIPConfig(32, VisionConfig(32, 64, 1, 16), TextConfig(64, 1, 2, vocab_size=1024))
MODEL = random_clip(CONFIG)
TOKENIZER = Tokenizer(CONFIG.text.vocab_size)
NAMES = ["cat", "fire engine", "{} in braces", "a name of a good many more words than the others have", "cat"]
PROMPTS = ("a photo of a {}.", "{}", "a {} beside another {}")


@pytest.mark.parametrize("batch_size", [1, 4, 256])
def test_a_class_is_the_normalised_mean_of_its_prompts_normalised_features(batch_size: int) -> None:
    vectors = classifier(MODEL, TOKENIZER, NAMES, PROMPTS, batch_size)
    assert vectors.shape == (len(NAMES), 32)
    assert vectors.dtype == torch.float32
    for vector, name in zip(vectors, NAMES, strict=True):
        texts = (f"a photo of a {name}.", name, f"a {name} beside another {name}")
        features = [normalize(MODEL.encode_text(TOKENIZER(text))[0], dim=0) for text in texts]
        torch.testing.assert_close(vector, normalize(sum(features, torch.zeros(32)) / 3, dim=0), rtol=0, atol=1e-5)
    assert torch.allclose(vectors.norm(dim=-1), torch.ones(len(NAMES)))
    torch.testing.assert_close(vectors[0], vectors[-1], rtol=0, atol=1e-5)
    assert (vectors[0] - vectors[1]).norm() > 0.01


def test_half_precision_models_give_float32_unit_vectors() -> None:
    model = random_clip(CONFIG).to(torch.bfloat16)
    vectors = classifier(model, TOKENIZER, NAMES, PROMPTS)
    assert vectors.dtype == torch.float32
    assert torch.allclose(vectors.norm(dim=-1), torch.ones(len(NAMES)))


@pytest.mark.parametrize("template", ["a photo", "{name}", "{0}", ""])
def test_a_template_without_a_place_for_the_name_is_refused(template: str) -> None:
    with pytest.raises(ValueError, match=r"has no \{\} for the class name"):
        classifier(MODEL, TOKENIZER, NAMES, ["{}", template])


@pytest.mark.parametrize(("names", "templates"), [([], PROMPTS), (NAMES, [])])
def test_no_names_or_no_templates_are_refused(names: list[str], templates: list[str]) -> None:
    with pytest.raises(ValueError, match="at least one"):
        classifier(MODEL, TOKENIZER, names, templates)


def test_the_shipped_templates_have_a_place_for_the_name() -> None:
    for templates in TEMPLATES.values():
        assert classifier(MODEL, TOKENIZER, ["cat", "dog"], templates).shape == (2, 32)


def test_probabilities_are_a_softmax_at_the_models_temperature() -> None:
    image = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    classes = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.8, 0.6]])
    scale = torch.tensor(math.log(5.0))
    rows = probabilities(image, classes, scale)
    for row, cosines in zip(rows.tolist(), [[1.0, 0.0, 0.8], [0.6, 0.8, 0.96]], strict=True):
        powers = [math.exp(5 * cosine) for cosine in cosines]
        assert row == pytest.approx([power / sum(powers) for power in powers], rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_probabilities_sum_to_one(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    image = normalize(torch.randn(16, 32, generator=generator), dim=-1).to(dtype)
    classes = classifier(MODEL, TOKENIZER, [str(i) for i in range(50)], ["{}"])
    rows = probabilities(image, classes, torch.tensor(math.log(100)))
    assert rows.shape == (16, 50) and rows.dtype == torch.float32
    assert (rows >= 0).all()
    assert torch.allclose(rows.sum(dim=-1), torch.ones(16))
    assert torch.equal(rows.argmax(dim=-1), (image.float() @ classes.T).argmax(dim=-1))


def test_a_higher_temperature_is_a_sharper_answer() -> None:
    image, classes = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.8, 0.6]])
    sharp, flat = (probabilities(image, classes, torch.tensor(scale))[0, 0] for scale in (4.0, 0.0))
    assert 0.5 < flat < sharp


def test_classes_may_have_prompts_of_their_own_however_many() -> None:
    prompts = [["a cat"], ["a dog", "my dog, asleep"], ["a cat"]]
    told: list[int] = []
    vectors = class_vectors(MODEL, TOKENIZER, iter(prompts), 3, batch_size=3, on_prompts=told.append)
    for vector, own in zip(vectors, prompts, strict=True):
        features = [normalize(MODEL.encode_text(TOKENIZER(text))[0], dim=0) for text in own]
        torch.testing.assert_close(vector, normalize(sum(features, torch.zeros(32)), dim=0), rtol=0, atol=1e-5)
    assert told == [3, 4]


def test_prompts_are_not_all_in_memory_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zeroshot, "_WINDOW", 4)
    read: list[int] = []
    told: list[int] = []

    def prompts() -> Iterator[list[str]]:
        for number in range(10):
            read.append(number)
            assert number <= len(told) * 2 + 4
            yield [f"number {number}"]

    some = class_vectors(MODEL, TOKENIZER, prompts(), 10, 2, told.append)
    monkeypatch.undo()
    every = class_vectors(MODEL, TOKENIZER, [[f"number {number}"] for number in range(10)], 10)
    torch.testing.assert_close(some, every, rtol=0, atol=1e-5)
    assert read == list(range(10))


@pytest.mark.parametrize(("k", "block"), [(1, 7), (5, 7), (5, 3), (50, 8), (2, 1000)])
def test_the_top_classes_are_those_of_the_whole_softmax(k: int, block: int) -> None:
    generator = torch.Generator().manual_seed(0)
    image, classes = (normalize(torch.randn(n, 16, generator=generator), dim=-1) for n in (33, 50))
    scale = torch.tensor(math.log(30))
    top = top_classes(image, classes, scale, k, block)
    every = probabilities(image, classes, scale)
    expected, where = every.topk(k, dim=1)
    assert torch.equal(top.indices, where)
    torch.testing.assert_close(top.probabilities, expected, rtol=1e-4, atol=1e-6)
    entropy = -torch.xlogy(every, every).sum(dim=1) / math.log(50)
    torch.testing.assert_close(top.entropy, entropy, rtol=1e-3, atol=1e-5)


def test_entropy_is_one_without_and_nought_with_certainty() -> None:
    classes = torch.eye(3)
    for image, entropy in ((torch.ones(1, 3) / math.sqrt(3), 1.0), (classes[:1], 0.0)):
        assert float(top_classes(image, classes, torch.tensor(math.log(100)), 1).entropy) == pytest.approx(entropy)
    assert float(top_classes(classes[:1], classes[:1], torch.tensor(1.0), 1).entropy) == 0


def test_the_background_is_judged_as_one_more_class() -> None:
    image = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.6, 0.8]])
    classes, background = torch.eye(3)[:2], torch.tensor([[0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])
    scale = torch.tensor(math.log(10))
    share = background_share(image, background, scale, top_classes(image, classes, scale, 1).log_total)
    for row, best in enumerate((background[0], background[1])):  # of several, the one that fits best
        whole = probabilities(image, torch.cat([classes, best[None]]), scale)
        assert float(share[row]) == pytest.approx(float(whole[row, 2]), rel=1e-5)


def test_of_equal_classes_the_first_comes_first() -> None:
    image, classes = torch.tensor([[0.6, 0.8]]), torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.6, 0.8]])
    for block in (1, 2, 3):
        assert top_classes(image, classes, torch.tensor(1.0), 2, block).indices.tolist() == [[1, 2]]


def test_no_image_has_no_class() -> None:
    top = top_classes(torch.zeros(0, 2), torch.eye(2), torch.tensor(1.0), 2)
    assert top.indices.shape == top.probabilities.shape == (0, 2) and top.entropy.shape == (0,)
