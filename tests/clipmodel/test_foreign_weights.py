"""Weights that are not a whole CLIP's are named for what they are, with the remedy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from clipmill.clipmodel.weights import load
from safetensors.torch import save_file
from weights_kit import error_of, hugging_face

Tensors = dict[str, torch.Tensor]
X = torch.zeros(2, 2)


@pytest.fixture(scope="module")
def tiny() -> Tensors:
    return dict(load("tiny").model.state_dict())


@pytest.mark.parametrize("prefix", ["", "module.", "model."])
def test_one_tower_alone_is_named(tiny: Tensors, prefix: str, tmp_path: Path) -> None:
    path = tmp_path / "tower.pt"
    images = {f"{prefix}{key}": value for key, value in tiny.items() if key.startswith("visual.")}
    torch.save({key.removeprefix(prefix) if prefix == "model." else key: v for key, v in images.items()}, path)
    assert f"{path}: holds an image tower alone: save the state dict of the whole model" in error_of(f"tiny={path}")
    texts = {f"{prefix}{key}": value for key, value in tiny.items() if not key.startswith("visual.")}
    torch.save(texts, path)
    assert "holds a text tower alone: save the state dict of the whole model" in error_of(str(path))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("base_model.model.visual.proj.lora_A.weight", "holds LoRA adapters"),
        ("lora_te_text_model_encoder_layers_0_mlp_fc1.lora_up.weight", "holds LoRA adapters"),
        ("base_model.model.visual.proj.base_layer.weight", "merge them into their model"),
        ("transformer.resblocks.0.mlp.c_fc.qweight", "holds quantised weights"),
        ("visual.trunk.stem.0.weight", "one of timm's"),
        ("visual.blocks.0.attn.q_proj.weight", "holds EVA-CLIP"),
        ("text.transformer.embeddings.word_embeddings.weight", "text encoder is not CLIP's own"),
        ("text_model.embeddings.word_embeddings.weight", "text encoder is BERT"),
        ("text_decoder.resblocks.0.ln_1.weight", "holds CoCa"),
        ("language_model.model.layers.0.mlp.up_proj.weight", "holds a language model"),
        ("model.diffusion_model.input_blocks.0.0.weight", "holds an image generator"),
    ],
)
def test_other_models_and_parts_of_models_are_named(name: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({name: X}, path)
    for spec in (str(path), f"ViT-B-32={path}"):
        message = error_of(spec)
        assert message.startswith(f"{path}: ") and says in message


def test_adapters_beside_the_whole_model_are_refused_too(tiny: Tensors, tmp_path: Path) -> None:
    tensors = {f"base_model.model.{key}": value for key, value in tiny.items()}
    tensors["base_model.model.transformer.resblocks.0.mlp.c_fc.lora_A.default.weight"] = X
    torch.save(tensors, tmp_path / "peft.pt")
    assert "holds LoRA adapters" in error_of(f"tiny={tmp_path / 'peft.pt'}")
    (tmp_path / "adapter_config.json").write_text("{}")
    assert f"{tmp_path}: holds LoRA adapters; merge them" in error_of(str(tmp_path))


def test_siglip_under_the_name_of_clip_is_told_from_its_tensors(tmp_path: Path) -> None:
    hugging_face().save_pretrained(tmp_path)
    from safetensors.torch import load_file

    tensors = {**load_file(tmp_path / "model.safetensors"), "vision_model.head.probe": X, "logit_bias": torch.zeros(1)}
    save_file(tensors, tmp_path / "model.safetensors")
    assert "holds SigLIP, and the settings beside it are those of a CLIP" in error_of(str(tmp_path))


@pytest.mark.parametrize("kind", ["clip_vision_model", "clip_text_model"])
def test_hugging_face_folders_of_one_tower_are_named(kind: str, tmp_path: Path) -> None:
    theirs = hugging_face()
    part = theirs.vision_model if kind == "clip_vision_model" else theirs.text_model
    tower = "vision_model." if kind == "clip_vision_model" else "text_model."
    save_file({f"{tower}{key}": value for key, value in part.state_dict().items()}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    assert "tower alone: save the" in error_of(str(tmp_path))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"GGUF\x03\0\0\0" + bytes(100), "a GGUF file; give safetensors or a PyTorch file"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "an HDF5 file, as Keras writes; give safetensors or a PyTorch file"),
    ],
)
def test_files_of_other_programs_are_named(content: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(content)
    assert error_of(f"tiny={tmp_path / 'model.bin'}") == f"{tmp_path / 'model.bin'}: {says}"


@pytest.mark.parametrize("weight_map", [None, [], {"a": "../secret"}, {"a": {"b": 1}, "c": "d/e"}])
def test_an_index_that_names_no_files_of_its_folder_is_refused(weight_map: object, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert "weight_map must name files in the same folder" in error_of(str(tmp_path))


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("config.json", {"text_config": 3}, "text_config is not an object"),
        ("config.json", {"vision_config": {"num_attention_heads": "8"}}, "num_attention_heads must be at least 1"),
        ("config.json", {"vision_config": {"image_size": None}}, "image_size must be at least 1"),
        ("config.json", {"vision_config": {"hidden_act": {"a": 1}}}, "hidden_act"),
        ("config.json", {"model_type": ["clip"]}, "a model of type ['clip'], not clip"),
    ],
)
def test_a_configuration_of_other_types_is_one_line(file: str, content: object, says: str, tmp_path: Path) -> None:
    hugging_face().save_pretrained(tmp_path)
    (tmp_path / file).write_text(json.dumps(content))
    message = error_of(str(tmp_path))
    assert message.startswith(f"{tmp_path / file}: ") and says in message


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"model_cfg": [1]}, "model_cfg is not an object"),
        ({"preprocess_cfg": {"mean": [0.5]}}, "mean [0.5]; give three numbers"),
        ({"preprocess_cfg": {"std": "0.5"}}, "std 0.5; give three numbers"),
        ({"preprocess_cfg": {"mode": "L"}}, "mode L; only RGB is supported"),
        ({"preprocess_cfg": {"size": 256}, "model_cfg": {"vision_cfg": {"image_size": 224}}}, "size 256; the encoder"),
    ],
)
def test_an_open_clip_configuration_of_other_types_is_one_line(
    tiny: Tensors, content: object, says: str, tmp_path: Path
) -> None:
    save_file(tiny, tmp_path / "open_clip_model.safetensors")
    (tmp_path / "open_clip_config.json").write_text(json.dumps(content))
    message = error_of(str(tmp_path))
    assert message.startswith(f"{tmp_path / 'open_clip_config.json'}: ") and says in message
