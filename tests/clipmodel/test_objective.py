"""The contrastive loss, on matrices small enough to work out by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from clipmill.clipmodel.config import CLIPConfig, TextConfig, VisionConfig
from clipmill.clipmodel.model import CLIP
from clipmill.clipmodel.objective import (
    MAX_LOGIT_SCALE,
    ContrastiveObjective,
    best_bias,
    contrastive_loss,
    sigmoid_loss,
)
from clipmill.clipmodel.preprocess import normalise
from random_models import captions, random_clip
from torch import Tensor
from torch.nn.functional import normalize

CONFIG = CLIPConfig(32, VisionConfig(32, 64, 1, 16), TextConfig(32, 1, 1, vocab_size=1024, context_length=16))
# unit vectors: cosines of 3-4-5 triangles
IMAGE = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
TEXT = torch.tensor([[0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]])
COSINES = [[0.8, 0.0, -0.6], [0.6, 1.0, 0.8], [0.96, 0.8, 0.28]]


def cross_entropy(row: list[float], right: int) -> float:
    return math.log(sum(math.exp(x) for x in row)) - row[right]


@pytest.mark.parametrize("scale", [1.0, 3.0, 6.0])
def test_the_loss_is_the_mean_of_both_directions_cross_entropies(scale: float) -> None:
    logits = [[scale * cosine for cosine in row] for row in COSINES]
    columns = [list(column) for column in zip(*logits, strict=True)]
    per_image = sum(cross_entropy(row, i) for i, row in enumerate(logits)) / 3
    per_text = sum(cross_entropy(column, i) for i, column in enumerate(columns)) / 3
    loss = contrastive_loss(IMAGE, TEXT, torch.tensor(scale))
    assert loss.item() == pytest.approx((per_image + per_text) / 2, rel=1e-5)
    assert abs(per_image - per_text) > 0.01


def test_both_directions_count_the_same() -> None:
    scale = torch.tensor(5.0)
    assert contrastive_loss(IMAGE, TEXT, scale).item() == pytest.approx(contrastive_loss(TEXT, IMAGE, scale).item())


def test_aligned_pairs_cost_nothing_and_shuffled_ones_what_the_scale_says() -> None:
    basis, scale = torch.eye(4), torch.tensor(100.0)
    assert contrastive_loss(basis, basis, scale).item() == pytest.approx(0, abs=1e-6)
    assert contrastive_loss(basis, basis.roll(1, 0), scale).item() == pytest.approx(100, rel=1e-5)


def test_features_that_say_nothing_cost_the_logarithm_of_the_batch() -> None:
    same = torch.tensor([[1.0, 0.0]]).expand(8, 2)
    assert contrastive_loss(same, same, torch.tensor(50.0)).item() == pytest.approx(math.log(8))


@pytest.mark.parametrize(("scale", "bias"), [(1.0, 0.0), (10.0, -10.0), (3.0, 0.5)])
def test_the_sigmoid_loss_judges_every_pair_by_itself(scale: float, bias: float) -> None:
    logits = [[scale * cosine + bias for cosine in row] for row in COSINES]
    costs = [
        math.log1p(math.exp(-logit if i == j else logit)) for i, row in enumerate(logits) for j, logit in enumerate(row)
    ]
    loss = sigmoid_loss(IMAGE, TEXT, torch.tensor(scale), torch.tensor(bias))
    assert loss.item() == pytest.approx(sum(costs) / 3, rel=1e-5)


def test_the_objective_of_a_model_with_a_bias_is_the_sigmoid_loss() -> None:
    clip = random_clip(replace(CONFIG, sigmoid=True))
    pixels, tokens = inputs()
    image = normalize(clip.encode_image(normalise(pixels, CONFIG.preprocess)), dim=-1)
    text = normalize(clip.encode_text(tokens), dim=-1)
    assert clip.logit_bias is not None
    expected = sigmoid_loss(image, text, clip.logit_scale.exp(), clip.logit_bias)
    assert ContrastiveObjective(clip)(pixels, tokens).item() == pytest.approx(expected.item(), rel=1e-6)


def pairs(count: int, noise: float, cone: float) -> tuple[Tensor, Tensor]:
    """Texts that are their images but for noise; images and texts each about a direction, as far as `cone` says."""
    generator = torch.Generator().manual_seed(count)
    image, more, ways = (torch.randn(n, 16, generator=generator) for n in (count, count, 2))
    return normalize(image + cone * ways[0], dim=-1), normalize(image + noise * more + cone * ways[1], dim=-1)


@pytest.mark.parametrize("scale", [1.0, 10.0, 50.0])
@pytest.mark.parametrize(
    ("count", "noise", "cone"), [(2, 1.0, 0.0), (8, 0.1, 0.0), (64, 0.3, 0.0), (64, 10.0, 0.0), (64, 1.0, 4.0)]
)
def test_the_best_bias_is_where_the_loss_is_least(count: int, noise: float, cone: float, scale: float) -> None:
    image, text = pairs(count, noise, cone)
    best = best_bias(image, text, torch.tensor(scale))
    losses = [sigmoid_loss(image, text, torch.tensor(scale), best + d).item() for d in (0, -9, -1, -0.1, 0.1, 1, 9)]
    assert losses[0] <= min(losses) + 1e-5 * losses[0]


def test_features_that_say_nothing_have_the_bias_of_the_odds_of_a_pair() -> None:
    same = torch.tensor([[1.0, 0.0]]).expand(8, 2)
    assert best_bias(same, same, torch.tensor(10.0)).item() == pytest.approx(-10 - math.log(7), abs=1e-5)


def test_only_in_training_is_the_bias_the_best_for_the_batch() -> None:
    clip = random_clip(replace(CONFIG, sigmoid=True))
    assert clip.logit_bias is not None
    before = clip.logit_bias.clone()
    ContrastiveObjective(clip)(*inputs())
    assert torch.equal(clip.logit_bias, before)
    ContrastiveObjective(clip.train())(*inputs())
    assert not torch.equal(clip.logit_bias, before)


def inputs(count: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, 32, 32, 3), dtype=torch.uint8, generator=generator)
    return pixels, captions(CONFIG, lengths=tuple(range(3, 3 + count)))


def test_the_objective_is_the_loss_of_the_models_normalised_features() -> None:
    clip = random_clip(CONFIG)
    pixels, tokens = inputs()
    image = normalize(clip.encode_image(normalise(pixels, CONFIG.preprocess)), dim=-1)
    text = normalize(clip.encode_text(tokens), dim=-1)
    expected = contrastive_loss(image, text, clip.logit_scale.exp())
    assert ContrastiveObjective(clip)(pixels, tokens).item() == pytest.approx(expected.item(), rel=1e-6)


def test_the_temperature_is_clamped_at_a_hundred() -> None:
    clip = random_clip(CONFIG)
    objective, (pixels, tokens) = ContrastiveObjective(clip), inputs()
    clip.logit_scale.fill_(MAX_LOGIT_SCALE)
    at_most = objective(pixels, tokens)
    clip.logit_scale.fill_(10.0)
    assert torch.equal(objective(pixels, tokens), at_most)
    clip.logit_scale.fill_(3.0)
    assert not torch.equal(objective(pixels, tokens), at_most)


@pytest.mark.parametrize(("start", "moves"), [(3.0, True), (MAX_LOGIT_SCALE, True), (5.0, False)])
def test_a_temperature_at_the_clamp_can_still_come_down(start: float, moves: bool) -> None:
    """The trainer puts it back onto the limit after each step, where a gradient of zero would hold it for ever."""
    clip = CLIP(CONFIG)
    with torch.no_grad():
        clip.logit_scale.fill_(start)
    ContrastiveObjective(clip)(*inputs()).backward()
    assert clip.logit_scale.grad is not None
    assert bool(clip.logit_scale.grad != 0) == moves


def test_features_and_loss_are_in_float32_under_autocast() -> None:
    clip = random_clip(CONFIG)
    objective, (pixels, tokens) = ContrastiveObjective(clip), inputs()
    full = objective(pixels, tokens)
    with torch.autocast("cpu", torch.bfloat16):
        half = objective(pixels, tokens)
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(full.item(), rel=0.05)
    assert half.item() != full.item()
