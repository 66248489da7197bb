"""Which arithmetic a run has, and what is refused because machines or models are not made for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from clipmill.clipmodel.config import VARIANTS
from clipmill.clipmodel.errors import ModelError
from clipmill.clipmodel.weights import ModelCard
from clipmill.pipeline import EmbedJob, embed
from clipmill.pipeline.dataset.plan import PLAN
from clipmill.pipeline.errors import UserError
from clipmill.pipeline.running import embed as embedding
from clipmill.pipeline.running import precision as module
from clipmill.pipeline.running import staff, worker
from clipmill.pipeline.running.placement import Placement
from clipmill.pipeline.running.precision import check_machines, decide

ON_A_GPU = Placement(1, 1, 1.0)


def card(variant: str) -> ModelCard:
    return ModelCard(variant, "random:0", "ab" * 32, VARIANTS[variant])


def test_it_follows_the_device(monkeypatch: pytest.MonkeyPatch, base: EmbedJob) -> None:
    for gpus, asked, expected in ((0.0, None, "fp32"), (1.0, None, "bf16"), (1.0, 0.5, "bf16"), (1.0, 0.0, "fp32")):
        monkeypatch.setattr(module, "gpus", lambda gpus=gpus: gpus)
        assert decide(replace(base, gpus_per_worker=asked), None, []) == expected


def test_a_model_must_have_what_it_is_about(base: EmbedJob) -> None:
    assert decide(replace(base, precision="fp8"), None, [card("ViT-L/14")]) == "fp8"
    with pytest.raises(ModelError, match="this model has a ResNet: use bf16"):
        decide(replace(base, precision="fp8"), None, [card("ViT-L/14"), card("RN50")])


@pytest.mark.parametrize(
    ("placement", "kinds", "says"),
    [
        (ON_A_GPU, {"H100"}, None),
        (ON_A_GPU, {"A100", "H200"}, None),  # a worker on the first one says so
        (ON_A_GPU, {"X9000"}, None),
        (ON_A_GPU, set(), None),
        (ON_A_GPU, {"A100", "T4"}, r"fp8 needs an NVIDIA GPU .* and this cluster has A100, T4: use bf16"),
        (Placement(1, 1, 0.0), {"H100"}, r"fp8 needs an NVIDIA GPU .* and workers here have no GPU: use fp32 or bf16"),
    ],
)
def test_8_bits_are_refused_where_no_machine_has_them(placement: Placement, kinds: set[str], says: str | None) -> None:
    check_machines("bf16", placement, kinds)
    if says is None:
        check_machines("fp8", placement, kinds)
    else:
        with pytest.raises(UserError, match=says) as caught:
            check_machines("fp8", placement, kinds)
        assert caught.value.exit_code == 2 and "\n" not in str(caught.value)


def test_a_refused_precision_begins_no_dataset(here: list[str], some: EmbedJob) -> None:
    with pytest.raises(UserError, match="fp8 needs an NVIDIA GPU"):
        embed(replace(some, precision="fp8"))
    assert not here and not (Path(some.out) / PLAN).exists()
    with pytest.raises(UserError, match="--gpus-per-worker 0 leaves none"):
        replace(some, precision="fp8", gpus_per_worker=0.0).check()


def test_what_only_a_worker_can_see_it_refuses_in_one_line(
    here: list[str], some: EmbedJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cluster has a GPU that Ray has no name for; the worker's device is this machine's CPU."""
    monkeypatch.setattr(staff, "place", lambda *_: ON_A_GPU)
    monkeypatch.setattr(module, "decide", lambda *_: "fp8")
    monkeypatch.setattr(embedding, "decide", lambda *_: "fp8")
    monkeypatch.setattr(worker.WorkerSettings, "device", property(lambda _: "cpu"))
    with pytest.raises(ModelError, match="fp8 needs an NVIDIA GPU of the Hopper generation or later") as caught:
        embed(replace(some, precision="fp8"))
    assert caught.value.exit_code == 2 and not here


def test_the_fingerprint_tells_precisions_apart(here: list[str], some: EmbedJob) -> None:
    assert embed(replace(some, precision="bf16")).complete
    with pytest.raises(UserError, match="precision is fp32, not bf16"):
        embed(replace(some, precision="fp32"))
