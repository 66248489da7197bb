"""Classifier vectors are what the paper's recipe gives, one prompt at a time."""

from __future__ import annotations

import math

import pytest
import torch
from clipmill.clipmodel.config import CLIPConfig, TextConfig, VisionConfig
from clipmill.clipmodel.tokenizer import Tokenizer
from clipmill.clipmodel.zeroshot import TEMPLATES, classifier, probabilities
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
