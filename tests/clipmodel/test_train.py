"""The trainer: its schedule, that it learns, that it resumes to the bit, and that many processes are one."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing
from clipmill.clipmodel.config import CLIPConfig, TrainingPrecision
from clipmill.clipmodel.metrics import recall_at_k
from clipmill.clipmodel.model import CLIP
from clipmill.clipmodel.objective import MAX_LOGIT_SCALE, ContrastiveObjective
from clipmill.clipmodel.preprocess import normalise
from clipmill.clipmodel.train import TrainBatch, TrainConfig, Trainer, learning_rate
from clipmill.clipmodel.transformer import SelfAttention
from tiny_training import RESNET, SEEDS, SIGMOID, TOGETHER, VIT, batch, model, mosaics, one_of_two, train_one_step
from torch import Tensor

BOTH = pytest.mark.parametrize("config", [VIT, RESNET], ids=["vit", "resnet"])
EVERY_PRECISION = pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])


# --- the schedule --------------------------------------------------------------------------------------------------


def test_the_rate_warms_up_in_a_line_and_comes_down_in_half_a_cosine() -> None:
    config = TrainConfig(steps=110, learning_rate=0.4, warmup_steps=10)
    rates = [learning_rate(step, config) for step in range(111)]
    assert rates[:10] == pytest.approx([0.04 * (step + 1) for step in range(10)])
    assert rates[10] == max(rates) == pytest.approx(0.4)
    assert rates[35] == pytest.approx(0.2 * (1 + math.sqrt(0.5)))  # a quarter of the way down
    assert rates[60] == pytest.approx(0.2)
    assert all(later < earlier for earlier, later in pairwise(rates[10:]))
    assert rates[109] > 0  # the last step is not in vain
    assert rates[110] == pytest.approx(0, abs=1e-12)


def test_the_rate_stays_at_zero_after_the_end() -> None:
    config = TrainConfig(steps=10, warmup_steps=2)
    assert [learning_rate(step, config) for step in (10, 11, 1000)] == pytest.approx([0, 0, 0])


@pytest.mark.parametrize(("steps", "warmup"), [(5, 0), (1, 0), (5, 5), (3, 10)])
def test_odd_lengths_have_a_rate_at_every_step(steps: int, warmup: int) -> None:
    config = TrainConfig(steps=steps, learning_rate=1.0, warmup_steps=warmup)
    assert all(0 < learning_rate(step, config) <= 1 for step in range(steps))


def test_a_step_uses_the_schedules_rate() -> None:
    trainer = Trainer(model(VIT), TrainConfig(steps=10, learning_rate=1e-3, warmup_steps=4))
    for step in range(6):
        trainer.step(batch())
        assert {group["lr"] for group in trainer.optimizer.param_groups} == {learning_rate(step, trainer.config)}
    assert trainer.step_number == 6


# --- learning ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [VIT, RESNET, SIGMOID], ids=["vit", "resnet", "sigmoid"])
def test_a_step_changes_both_towers_and_the_temperature(config: CLIPConfig) -> None:
    clip = model(config)
    before = {key: tensor.clone() for key, tensor in clip.state_dict().items()}
    trainer = Trainer(clip, TrainConfig(steps=10, warmup_steps=0))
    loss = trainer.step(batch())
    # of a fresh model: about chance, where the sigmoid's wrong pairs cost about as much as one right one can save
    assert loss == pytest.approx(math.log(7) + 1 if config is SIGMOID else math.log(8), abs=1.5)
    after = clip.state_dict()
    for key in ("visual.conv1.weight", "token_embedding.weight", "text_projection", "logit_scale", "ln_final.bias"):
        assert not torch.equal(before[key], after[key]), key
    if config is SIGMOID:
        assert not torch.equal(before["logit_bias"], after["logit_bias"])
    if config is RESNET:
        assert not torch.equal(before["visual.bn1.running_mean"], after["visual.bn1.running_mean"])


@pytest.mark.parametrize(
    ("config", "precision"),
    [  # fp16 convolutions take long
        *((VIT, precision) for precision in ("fp32", "bf16", "fp16")),
        *((RESNET, precision) for precision in ("fp32", "bf16")),
        *((SIGMOID, precision) for precision in ("fp32", "bf16", "fp16")),
    ],
)
def test_the_loss_of_a_batch_seen_again_and_again_falls(config: CLIPConfig, precision: TrainingPrecision) -> None:
    trainer = Trainer(model(config), TrainConfig(steps=60, learning_rate=2e-3, warmup_steps=5, precision=precision))
    losses = [trainer.step(batch()) for _ in range(40)]
    assert losses[-1] < 0.2 * losses[0]
    assert all(parameter.dtype == torch.float32 for parameter in trainer.clip.parameters())


@pytest.mark.parametrize("config", [VIT, SIGMOID], ids=["softmax", "sigmoid"])
def test_with_either_loss_each_picture_learns_to_find_its_caption(config: CLIPConfig) -> None:
    trainer, data = Trainer(model(config), TrainConfig(steps=60, learning_rate=2e-3, warmup_steps=5)), batch()
    pixels, own = normalise(data.pixels, config.preprocess), torch.arange(len(data.pixels))
    with torch.no_grad():
        assert (trainer.clip.eval()(pixels, data.tokens)[0].argmax(dim=1) == own).float().mean() < 0.6
    for _ in range(40):
        trainer.step(data)
    with torch.no_grad():
        for logits in trainer.clip.eval()(pixels, data.tokens):
            assert torch.equal(logits.argmax(dim=1), own)


def recall_of_the_unseen(config: CLIPConfig, seed: int) -> float:
    """recall@10, both ways, after 60 steps on other mosaics; chance is 0.025."""
    seen, unseen, rng = mosaics(1500, 0), mosaics(400, 1), torch.Generator().manual_seed(seed)
    trainer = Trainer(model(config, seed), TrainConfig(steps=60, learning_rate=1.5e-3, warmup_steps=6))
    for _ in range(60):
        drawn = torch.randperm(1500, generator=rng)[:64]
        trainer.step(TrainBatch(seen.pixels[drawn], seen.tokens[drawn]))
    with torch.no_grad():
        similarity = trainer.clip.eval()(normalise(unseen.pixels, config.preprocess), unseen.tokens)[0].numpy()
    return (recall_at_k(similarity, 10) + recall_at_k(similarity.T, 10)) / 2


def test_the_sigmoid_loss_learns_what_transfers_as_the_softmax_does() -> None:
    """With a bias that the optimiser moves from -10 on it finds two thirds of what the softmax finds; now 0.95 to 0.98,
    whatever the seed."""
    softmax, sigmoid = (sum(recall_of_the_unseen(config, seed) for seed in range(2)) for config in (VIT, SIGMOID))
    assert softmax > 2 * 0.9
    assert sigmoid > 0.9 * softmax


def test_lower_precision_starts_from_about_the_same_loss() -> None:
    losses = {p: Trainer(model(VIT), TrainConfig(10, precision=p)).step(batch()) for p in ("fp32", "bf16", "fp16")}
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.05)
    assert losses["fp16"] == pytest.approx(losses["fp32"], rel=0.05)
    assert losses["bf16"] != losses["fp32"] != losses["fp16"]


@pytest.mark.parametrize("start", [-1.0, 10.0])
def test_the_temperature_stays_within_its_limits(start: float) -> None:
    trainer = Trainer(model(VIT), TrainConfig(steps=10))
    with torch.no_grad():
        trainer.clip.logit_scale.fill_(start)
    trainer.step(batch())
    assert 0 <= trainer.clip.logit_scale.item() <= MAX_LOGIT_SCALE + 1e-6


@BOTH
def test_matrices_decay_and_nothing_else_does(config: CLIPConfig) -> None:
    trainer = Trainer(model(config), TrainConfig(steps=10, weight_decay=0.3))
    decay = {id(p): group["weight_decay"] for group in trainer.optimizer.param_groups for p in group["params"]}
    named = dict(trainer.clip.named_parameters())
    assert len(decay) == len(named) == sum(len(group["params"]) for group in trainer.optimizer.param_groups)
    for name, parameter in named.items():
        assert decay[id(parameter)] == (0.3 if parameter.ndim >= 2 else 0.0), name
    assert decay[id(named["logit_scale"])] == decay[id(named["ln_final.weight"])] == 0.0


@EVERY_PRECISION
def test_gradients_are_clipped_to_the_norm_asked_for(precision: TrainingPrecision) -> None:
    norms = []
    for limit in (1e9, 0.01):
        trainer = Trainer(model(VIT), TrainConfig(steps=10, gradient_clip=limit, precision=precision))
        # low enough for this fp16 step not to overflow
        trainer.scaler = torch.amp.GradScaler("cpu", init_scale=64.0, enabled=precision == "fp16")
        trainer.step(batch())
        norms.append(torch.stack([p.grad.norm() for p in trainer.clip.parameters() if p.grad is not None]).norm())
    assert norms[0] > 0.1
    assert norms[1].item() == pytest.approx(0.01, rel=1e-3)


# --- resuming ------------------------------------------------------------------------------------------------------


def assert_equal(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one["loss"] == other["loss"]
    for kind in ("gradients", "parameters"):
        assert one[kind].keys() == other[kind].keys()
        for name, tensor in one[kind].items():
            # the scaler's first fp16 steps overflow, as they may
            torch.testing.assert_close(
                tensor, other[kind][name], rtol=0, atol=0, equal_nan=True, msg=f"{kind} of {name}"
            )


@BOTH
@EVERY_PRECISION
def test_a_resumed_run_goes_on_to_the_bit(config: CLIPConfig, precision: TrainingPrecision, tmp_path: Path) -> None:
    settings = TrainConfig(steps=10, warmup_steps=2, precision=precision)
    first = Trainer(model(config), settings)
    for seed in (1, 2, 3):
        first.step(batch(seed=seed))
    torch.save(first.state_dict(), tmp_path / "state.pt")
    later = [train_one_step(first, batch(seed=seed)) for seed in (4, 5)]

    resumed = Trainer(model(config, seed=1), settings)
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))  # which runs no code of the file
    assert resumed.step_number == 3
    for seed, expected in zip((4, 5), later, strict=True):
        assert_equal(train_one_step(resumed, batch(seed=seed)), expected)
    for key, tensor in first.clip.state_dict().items():  # batch statistics too
        assert torch.equal(tensor, resumed.clip.state_dict()[key]), key


# --- recomputing activations ---------------------------------------------------------------------------------------


def count_attention(clip: CLIP) -> list[str]:
    """A list that grows by one at each attention layer's run from now on."""
    runs: list[str] = []
    for module in clip.modules():
        if isinstance(module, SelfAttention):
            module.register_forward_hook(lambda *_: runs.append("run"))
    return runs


@pytest.mark.parametrize(("config", "blocks"), [(VIT, 4), (RESNET, 2)], ids=["vit", "resnet"])
def test_recomputing_gives_the_same_gradients_and_does_recompute(config: CLIPConfig, blocks: int) -> None:
    results, runs = [], []
    for recompute in (False, True):
        trainer = Trainer(model(config), TrainConfig(steps=10, recompute=recompute))
        counted = count_attention(trainer.clip)
        results.append(train_one_step(trainer, batch()))
        runs.append(len(counted))
    assert runs == [blocks, 2 * blocks]
    assert_equal(results[0], results[1])


def test_nothing_is_recomputed_outside_training() -> None:
    clip = model(VIT)
    Trainer(clip, TrainConfig(steps=10, recompute=True))
    runs = count_attention(clip.eval())
    ContrastiveObjective(clip)(batch().pixels, batch().tokens).backward()
    assert len(runs) == 4


# --- many processes ------------------------------------------------------------------------------------------------


def comparable(name: str, tensor: Tensor) -> Tensor:
    """All but keys' biases: they move no attention, so Adam makes its steps of rounding errors there."""
    if not name.endswith("in_proj_bias"):
        return tensor
    query, _, value = tensor.chunk(3)
    return torch.cat([query, value])


def test_two_processes_with_half_a_batch_each_are_one_with_the_whole(tmp_path: Path) -> None:
    """The ViT, as batch norm's statistics would be of each half."""
    runs = [(VIT, TOGETHER), (VIT, replace(TOGETHER, recompute=True)), (SIGMOID, TOGETHER)]
    torch.multiprocessing.spawn(one_of_two, args=(str(tmp_path), runs), nprocs=2)
    ranks = [torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in (0, 1)]
    for (architecture, config), first, second in zip(runs, *ranks, strict=True):
        alone = Trainer(model(architecture), config)
        for seed, one, other in zip(SEEDS, first, second, strict=True):
            whole = train_one_step(alone, batch(seed=seed))
            assert (one["loss"] + other["loss"]) / 2 == pytest.approx(whole["loss"], rel=1e-5)
            assert one["loss"] != other["loss"]
            for kind in ("gradients", "parameters"):
                assert one[kind].keys() == other[kind].keys() == whole[kind].keys()
                for name, tensor in whole[kind].items():
                    assert torch.equal(one[kind][name], other[kind][name]), name
                    difference = comparable(name, one[kind][name] - tensor).abs().max()
                    assert difference < 1e-5, f"{kind} of {name}"
            assert max(tensor.abs().max() for tensor in whole["gradients"].values()) > 0.1
