"""Every published format gives the embeddings of the library that wrote it."""

from __future__ import annotations

import hashlib
import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import reference
import torch
from clipmill.clipmodel import weights
from clipmill.clipmodel.config import CLIPConfig, PreprocessConfig
from clipmill.clipmodel.model import CLIP
from clipmill.clipmodel.weights import load, save
from random_models import random_clip
from safetensors.torch import load_file, save_file
from torch import nn
from weights_kit import BOTH, RESNET, VIT, assert_same, custom_text, error_of, hugging_face, trace

pytestmark = pytest.mark.usefixtures("variants")


@BOTH
def test_torchscript_archives_give_the_references_embeddings(config: CLIPConfig, tmp_path: Path) -> None:
    theirs = reference.model(config, random_clip(config).state_dict())
    path = trace(theirs, config, tmp_path / "model.pt")
    for spec in (str(path), f"{'R' if config is RESNET else 'S-16'}={path}"):
        loaded = load(spec)
        assert_same(loaded, theirs)
        assert loaded.model.config == config  # QuickGELU, though S-16 alone would mean GELU
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert torch.equal(torch.jit.load(path).visual.conv1.weight, loaded.model.visual.conv1.weight)


def test_a_torchscript_archive_of_a_gelu_model_is_told_from_its_program(model: CLIP, tmp_path: Path) -> None:
    theirs = reference.model(VIT, model.state_dict())
    for block in [*theirs.visual.transformer.resblocks, *theirs.transformer.resblocks]:
        block.mlp.gelu = nn.GELU()
    loaded = load(str(trace(theirs, VIT, tmp_path / "gelu.pt")))
    assert loaded.model.config.activation == "gelu"
    assert_same(loaded, theirs)


def test_half_precision_archives_are_read_as_float32(model: CLIP, tmp_path: Path) -> None:
    theirs = reference.model(VIT, model.state_dict())
    reference.module("model").convert_weights(theirs)
    torch.save(theirs.state_dict(), tmp_path / "half.pt")
    loaded = load(f"S/16={tmp_path / 'half.pt'}")
    assert {tensor.dtype for tensor in loaded.model.state_dict().values()} == {torch.float32}
    assert_same(loaded, theirs.float())


@BOTH
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("wrapped", ["plain", "training"])
def test_state_dicts_give_the_references_embeddings(
    config: CLIPConfig, wrapped: str, legacy: bool, tmp_path: Path
) -> None:
    tensors: Any = reference.model(config, random_clip(config).state_dict()).state_dict()
    if wrapped == "training":
        optimizer = {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 1e-3}]}
        tensors = {f"module.{key}": value for key, value in tensors.items()}
        tensors = {"epoch": 3, "name": "run", "state_dict": tensors, "optimizer": optimizer}
    torch.save(tensors, tmp_path / "epoch_3.pt", _use_new_zipfile_serialization=not legacy)
    loaded = load(f"{'R' if config is RESNET else 'S/16'}={tmp_path / 'epoch_3.pt'}")
    assert_same(loaded, reference.model(config, random_clip(config).state_dict()))
    assert loaded.card.weights == "epoch_3.pt"  # not where it lies
    assert loaded.card.weights_sha256 == hashlib.sha256((tmp_path / "epoch_3.pt").read_bytes()).hexdigest()


@pytest.mark.parametrize("layout", ["flat", "custom text", "custom text, linear projection"])
@pytest.mark.parametrize("suffix", ["bin", "safetensors"])
def test_open_clip_layouts_give_the_references_embeddings(
    model: CLIP, layout: str, suffix: str, tmp_path: Path
) -> None:
    tensors = {**model.state_dict(), "logit_scale": model.logit_scale.reshape(1)}
    if layout != "flat":
        tensors = custom_text(tensors)
    if layout.endswith("projection"):
        tensors["text.text_projection.weight"] = tensors.pop("text.text_projection").T.contiguous()
    path = tmp_path / f"open_clip_model.{suffix}"
    save_file(tensors, path) if suffix == "safetensors" else torch.save(tensors, path)
    assert_same(load(f"S/16={path}"), reference.model(VIT, model.state_dict()))


@pytest.mark.parametrize("quick", [True, False])
def test_an_open_clip_config_beside_the_file_tells_activation_and_preprocessing(
    model: CLIP, quick: bool, tmp_path: Path
) -> None:
    save_file(model.state_dict(), tmp_path / "open_clip_model.safetensors")
    settings = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.5, 0.5], "interpolation": "bicubic", "resize_mode": "squash"}
    values = {"model_cfg": {"embed_dim": 64, "quick_gelu": quick}, "preprocess_cfg": settings}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(values))
    for path in (tmp_path, tmp_path / "open_clip_model.safetensors"):
        config = load(str(path)).card.config
        assert config.activation == ("quick_gelu" if quick else "gelu")
        assert config.preprocess == PreprocessConfig((0.5, 0.5, 0.5), (0.25, 0.5, 0.5), "squash")
    settings["interpolation"] = "nearest"
    (tmp_path / "open_clip_config.json").write_text(json.dumps(values))
    assert "only bicubic or bilinear is supported" in error_of(str(tmp_path))


@pytest.mark.parametrize("activation", ["gelu", "quick_gelu"])
def test_hugging_face_folders_give_transformers_embeddings(activation: str, tmp_path: Path) -> None:
    theirs = hugging_face(activation)
    theirs.save_pretrained(tmp_path)
    settings = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.5, 0.5, 0.5], "resample": 3, "do_center_crop": True}
    settings["crop_size"] = 48
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings | {"size": {"shortest_edge": 48}}))
    loaded = load(str(tmp_path))
    config = loaded.card.config
    assert (config.embed_dim, config.vision.heads, config.text.heads, config.vision.mlp_width) == (48, 4, 2, 384)
    assert config.preprocess == PreprocessConfig((0.1, 0.2, 0.3), (0.5, 0.5, 0.5), steps="transformers")
    assert_same(loaded, theirs)
    assert_same(load(str(tmp_path / "model.safetensors")), theirs)
    assert loaded.card.variant == "custom"

    settings |= {"size": {"height": 48, "width": 48}, "do_center_crop": False}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    assert load(str(tmp_path)).card.config.preprocess.resize == "squash"
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings | {"resample": 1}))
    assert "only 3, bicubic, and 2, bilinear, are supported" in error_of(str(tmp_path))


def test_hugging_face_folders_of_several_files_and_of_pickles_are_read_too(tmp_path: Path) -> None:
    theirs = hugging_face()
    theirs.save_pretrained(tmp_path / "shards", max_shard_size="300KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 2
    sharded = load(str(tmp_path / "shards"))
    assert_same(sharded, theirs)
    theirs.save_pretrained(tmp_path / "bin")
    (tmp_path / "bin" / "model.safetensors").unlink()
    torch.save(theirs.state_dict(), tmp_path / "bin" / "pytorch_model.bin")
    assert_same(load(str(tmp_path / "bin")), theirs)
    files = sorted((tmp_path / "shards").glob("*.safetensors"))
    joined = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
    assert sharded.card.weights_sha256 == joined
    files[1].unlink()
    assert "no such file" in error_of(str(tmp_path / "shards"))


def test_hugging_face_models_of_another_kind_are_refused(tmp_path: Path) -> None:
    theirs = hugging_face()
    theirs.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    values = json.loads(path.read_text())
    for change, says in [
        ({"model_type": "siglip2"}, "a model of type siglip2, not clip or siglip"),
        ({"model_type": "siglip"}, "hidden_act gelu; only gelu_pytorch_tanh is supported"),
        ({"text_config": values["text_config"] | {"hidden_act": "quick_gelu"}}, "hidden_act gelu and quick_gelu"),
        ({"vision_config": values["vision_config"] | {"layer_norm_eps": 1e-6}}, "layer_norm_eps"),
        ({"vision_config": values["vision_config"] | {"num_attention_heads": 7}}, "7 attention heads do not divide"),
    ]:
        path.write_text(json.dumps(values | change))
        assert says in error_of(str(tmp_path))
    path.write_text("{")
    assert "not readable as JSON" in error_of(str(tmp_path))
    path.unlink()
    assert "without config.json" in error_of(str(tmp_path))


@BOTH
@pytest.mark.parametrize("dtype", [None, torch.float16])
def test_our_own_files_restore_the_model_and_its_whole_configuration(
    config: CLIPConfig, dtype: torch.dtype | None, tmp_path: Path
) -> None:
    # nothing of this can be told from the tensors, and no table has it
    config = replace(
        config,
        activation="gelu",
        text=replace(config.text, heads=4),
        vision=replace(config.vision, head_width=32),
        preprocess=PreprocessConfig((0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "squash"),
    )
    model = random_clip(config)
    path = tmp_path / "mine.safetensors"
    save(model, path, variant="my-own", dtype=dtype, trained_on="scenes")
    loaded = load(str(path))
    assert loaded.model.config == loaded.card.config == config
    assert (loaded.card.variant, loaded.card.weights) == ("my-own", "mine.safetensors")
    assert_same(loaded, model, tolerance=1e-5 if dtype is None else 0.03)
    assert {tensor.dtype for tensor in loaded.model.state_dict().values()} <= {torch.float32, torch.int64}
    assert [path.name for path in tmp_path.iterdir()] == ["mine.safetensors"]
    assert set(load_file(path)) == set(model.state_dict())
    (tmp_path / "other").touch()
    assert path.stat().st_mode == (tmp_path / "other").stat().st_mode  # as readable as any new file


def test_a_failed_save_leaves_nothing_behind(model: CLIP, tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        save(model, tmp_path / "mine.safetensors", trained_on=object())
    assert list(tmp_path.iterdir()) == []


def test_models_come_in_the_precision_asked_for_ready_to_encode(model: CLIP, tmp_path: Path) -> None:
    save(model, tmp_path / "mine.safetensors")
    loaded = load(str(tmp_path / "mine.safetensors"), dtype=torch.bfloat16)
    assert {tensor.dtype for tensor in loaded.model.parameters()} == {torch.bfloat16}
    assert not loaded.model.training
    assert not any(tensor.requires_grad for tensor in loaded.model.parameters())
    assert loaded.preprocess.size == 64
    assert loaded.tokenizer.context_length == 77


def test_random_weights_are_a_function_of_the_seed() -> None:
    state = torch.get_rng_state()
    first, again, other = load("S/16=random"), load("S/16=random:0"), load("S/16=random:1")
    assert torch.equal(torch.get_rng_state(), state)
    assert first.card == again.card
    assert first.card.weights == "random:0" and first.card.variant == "S/16"
    assert other.card.weights_sha256 != first.card.weights_sha256
    for one, two in zip(first.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(one, two)
    assert torch.equal(weights.random_weights(VIT, 1).visual.proj, other.model.visual.proj)
