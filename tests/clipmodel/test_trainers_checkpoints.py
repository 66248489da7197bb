"""Checkpoints as training scripts save them give the embeddings of the plain state dict, and run no code."""

from __future__ import annotations

import argparse
import collections
import datetime
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clipmill.clipmodel.model import CLIP
from clipmill.clipmodel.weights import load, save
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_models import captions, images
from safetensors.torch import save_file
from weights_kit import assert_same, error_of, hugging_face

Tensors = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def tiny() -> CLIP:
    return load("tiny").model


def prefixed(prefix: str) -> Callable[[Tensors], Any]:
    return lambda tensors: {f"{prefix}{key}": value for key, value in tensors.items()}


def compiled_inside(tensors: Tensors) -> Tensors:
    """Only the image tower went through torch.compile."""
    return {key.replace("visual.", "visual._orig_mod."): value for key, value in tensors.items()}


def with_more_tokens(tensors: Tensors, more: int = 3) -> Tensors:
    embedding = tensors["token_embedding.weight"]
    return {**tensors, "token_embedding.weight": torch.cat([embedding, torch.randn(more, embedding.shape[1])])}


OPTIMIZER = {"state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.zeros(4)}}, "param_groups": [{"lr": 1e-3}]}
ARGUMENTS = argparse.Namespace(lr=1e-3, save=Path("/runs"), since=datetime.datetime(2026, 11, 1), betas=(0.9, 0.98))
NUMBERS = {
    "loss": np.float64(0.5),
    "epoch": np.int64(3),
    "curve": np.arange(4.0),
    "seen": collections.defaultdict(list),
}
SAVED: dict[str, Callable[[Tensors], Any]] = {
    "plain": lambda tensors: tensors,
    "state_dict": lambda tensors: {"epoch": 1, "state_dict": tensors, "optimizer": OPTIMIZER},
    "model_state_dict": lambda tensors: {"model_state_dict": tensors, "optimizer_state_dict": OPTIMIZER},
    "model": lambda tensors: {"model": tensors, "optimizer": OPTIMIZER},
    "state_dict_ema": lambda tensors: {"state_dict_ema": tensors, "arch": "clip"},
    "net": lambda tensors: {"net": tensors},
    "a key of one's own": lambda tensors: {"optimizer": OPTIMIZER, "student_weights": tensors},
    "wrapped twice": lambda tensors: {"state": {"model": tensors}},
    "deepspeed": lambda tensors: {
        "module": tensors,
        "buffer_names": [],
        "ds_config": {"zero": 1},
        "ds_version": "0.17",
    },
    "deepspeed, distributed": lambda tensors: {"module": prefixed("module.")(tensors), "optimizer": None},
    "lightning, model.": lambda tensors: {"state_dict": prefixed("model.")(tensors), "pytorch-lightning_version": "2"},
    "lightning, clip.": lambda tensors: {"state_dict": prefixed("clip.")(tensors), "hyper_parameters": {"lr": 1.0}},
    "lightning, beside a loss": lambda tensors: {
        "state_dict": {**prefixed("model.")(tensors), "loss.weight": torch.ones(3), "head.bias": torch.ones(2)}
    },
    "compiled, then distributed": prefixed("module._orig_mod."),
    "distributed, then compiled": prefixed("_orig_mod.module."),
    "compiled inside": compiled_inside,
    "all of them": lambda tensors: {"state_dict": prefixed("_orig_mod.module.model.clip.")(tensors)},
    "sigmoid loss": lambda tensors: {**tensors, "logit_bias": torch.tensor(-10.0)},
    "buffers": lambda tensors: {**tensors, "position_ids": torch.arange(77)[None], "attn_mask": torch.zeros(77, 77)},
    "arguments": lambda tensors: {"model": tensors, "args": ARGUMENTS},
    "numbers": lambda tensors: {"model": tensors, **NUMBERS},
    "random states": lambda tensors: {
        "model": tensors,
        "numpy": np.random.RandomState(0).get_state(),
        "python": random.getstate(),
        "torch": torch.get_rng_state(),
    },
    "added tokens": with_more_tokens,
}


@torch.inference_mode()
def assert_same_embeddings(model: CLIP, other: CLIP, length: int = 40) -> None:
    pixels, tokens = images(model.config), captions(model.config, lengths=(5, 16, length))
    assert torch.equal(model.encode_image(pixels), other.encode_image(pixels))
    assert torch.equal(model.encode_text(tokens), other.encode_text(tokens))
    assert torch.equal(model.logit_scale, other.logit_scale)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("form", SAVED)
def test_what_trainers_save_gives_the_plain_state_dicts_embeddings(
    tiny: CLIP, form: str, legacy: bool, tmp_path: Path
) -> None:
    path = tmp_path / "epoch_3.pt"
    torch.save(SAVED[form](dict(tiny.state_dict())), path, _use_new_zipfile_serialization=not legacy)
    loaded = load(f"tiny={path}")
    assert_same_embeddings(tiny, loaded.model)
    assert loaded.card.variant == "tiny"
    assert loaded.tokenizer.vocab_size == 4096


PARTS = ["module.", "_orig_mod.", "model.", "clip.", "net.", "_fsdp_wrapped_module.", "my_encoder.", "0."]


@settings(deadline=None, max_examples=40, suppress_health_check=list(HealthCheck))
@given(prefix=st.lists(st.sampled_from(PARTS), max_size=5).map("".join), beside=st.booleans())
def test_prefixes_may_stand_in_any_order(tiny: CLIP, prefix: str, beside: bool, tmp_path_factory: Any) -> None:
    path = tmp_path_factory.mktemp("prefixed") / "model.safetensors"
    tensors = {f"{prefix}{key}": value.clone() for key, value in tiny.state_dict().items()}
    if beside and prefix.replace("module.", "").replace("_orig_mod.", "").replace("_fsdp_wrapped_", ""):
        tensors["metric.total"] = torch.ones(2)
    save_file(tensors, path)
    assert_same_embeddings(tiny, load(f"tiny={path}").model)


def test_a_temperature_beside_the_model_is_taken(tiny: CLIP, tmp_path: Path) -> None:
    tensors = prefixed("clip.")(dict(tiny.state_dict()))
    tensors["logit_scale"] = tensors.pop("clip.logit_scale") + 1
    torch.save(tensors, tmp_path / "model.pt")
    assert load(f"tiny={tmp_path / 'model.pt'}").model.logit_scale == tiny.logit_scale + 1


def test_a_longer_context_is_taken_from_the_file(tiny: CLIP, tmp_path: Path) -> None:
    tensors = dict(tiny.state_dict())
    short = tensors["positional_embedding"]
    tensors["positional_embedding"] = torch.cat([short, torch.randn(248 - 77, short.shape[1])])
    torch.save(tensors, tmp_path / "long.pt")
    loaded = load(f"tiny={tmp_path / 'long.pt'}")
    assert loaded.model.config.text.context_length == loaded.tokenizer.context_length == 248
    assert loaded.card.variant == "tiny"
    with torch.inference_mode():
        tokens = captions(tiny.config)
        assert torch.equal(loaded.model.encode_text(tokens), tiny.encode_text(tokens))
        long = captions(loaded.model.config, lengths=(240,))
        assert loaded.model.encode_text(long).isfinite().all()
    save(loaded.model, tmp_path / "again.safetensors", variant="tiny")
    assert load(f"tiny={tmp_path / 'again.safetensors'}").tokenizer.context_length == 248


def test_long_clips_second_table_of_positions_counts_from_the_twentieth_on(tiny: CLIP, tmp_path: Path) -> None:
    tensors = dict(tiny.state_dict())
    width = tensors["positional_embedding"].shape[1]
    tables = torch.randn(2, 248, width)
    torch.save({**tensors, "positional_embedding": tables[0], "positional_embedding_res": tables[1]}, tmp_path / "l.pt")
    positions = load(f"tiny={tmp_path / 'l.pt'}").model.positional_embedding
    assert torch.equal(positions[:20], tables[0, :20]) and torch.equal(positions[20:], tables[1, 20:])


def test_of_several_models_in_a_file_one_has_to_be_chosen(tiny: CLIP, tmp_path: Path) -> None:
    tensors = dict(tiny.state_dict())
    torch.save({**prefixed("student.")(tensors), **prefixed("teacher.")(tensors)}, tmp_path / "two.pt")
    message = error_of(f"tiny={tmp_path / 'two.pt'}")
    assert "holds 2 CLIP models (student. and teacher.): save the state dict of one of them" in message


def test_where_a_file_has_averaged_weights_too_the_trained_ones_are_read(tiny: CLIP, tmp_path: Path) -> None:
    tensors = dict(tiny.state_dict())
    averaged = {key: value * 0 for key, value in tensors.items()}
    torch.save({"state_dict_ema": averaged, "state_dict": tensors}, tmp_path / "both.pt")
    assert_same_embeddings(tiny, load(f"tiny={tmp_path / 'both.pt'}").model)


def test_added_tokens_of_a_hugging_face_folder_are_told_from_its_configuration(tmp_path: Path) -> None:
    theirs = hugging_face(vocab_size=1030)  # [EOS] stays 1023
    theirs.save_pretrained(tmp_path)
    loaded = load(str(tmp_path))
    assert loaded.tokenizer.vocab_size == 1024
    assert_same(loaded, theirs)


def test_prefixed_tensors_of_hugging_face_are_read_with_the_configuration_beside_them(tmp_path: Path) -> None:
    theirs = hugging_face()
    theirs.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save({"state_dict": prefixed("model.clip.")(theirs.state_dict())}, tmp_path / "pytorch_model.bin")
    assert_same(load(str(tmp_path)), theirs)
