"""What can be asked for, and what a file of weights is taken for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import hugging_face
import pytest
import torch
from clipmill.clipmodel import sources, weights
from clipmill.clipmodel.checkpoint import read_checkpoint
from clipmill.clipmodel.config import VARIANTS, VisionConfig
from clipmill.clipmodel.errors import ModelError
from clipmill.clipmodel.infer import infer, looks_like, same_architecture
from clipmill.clipmodel.model import CLIP
from clipmill.clipmodel.weights import ModelSpec, load, parse_spec, save
from random_models import random_clip
from safetensors.torch import load_file, save_file
from weights_kit import RESNET, VIT, assert_same, error_of

pytestmark = pytest.mark.usefixtures("variants")


def test_specs_are_a_name_a_name_with_weights_or_a_path(tmp_path: Path) -> None:
    (tmp_path / "odd=name").touch()
    assert parse_spec("ViT-B/32") == ModelSpec("ViT-B/32", None)
    assert parse_spec("ViT-B-32=laion2b_s34b_b79k") == ModelSpec("ViT-B-32", "laion2b_s34b_b79k")
    assert parse_spec("ViT-B-32=a/b=c.pt") == ModelSpec("ViT-B-32", "a/b=c.pt")
    assert parse_spec("weights.safetensors") == ModelSpec(None, "weights.safetensors")
    assert parse_spec(str(tmp_path / "odd=name")) == ModelSpec(None, str(tmp_path / "odd=name"))


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("ViT-B33", "did you mean ViT-B"),
        ("ViT-B33=x.pt", "unknown model 'ViT-B33'"),
        ("ViT-B-32=", "nothing after the equals sign"),
        ("ViT-B-32=laion2b_s34b_b79", "laion2b_s34b_b79k"),
        ("ViT-B-32-quickgelu=laion2b_s34b_b79k", "no weights called"),
        ("ViT-B-32=./absent.pt", "absent.pt: no such file or folder"),
        ("/nowhere/absent.pt", "/nowhere/absent.pt: no such file or folder"),
        ("R", "R has no named weights here: give a file, R=PATH"),
        ("S/16=random:x", "seed must be a whole number"),
        ("x" * 3000, "unknown model"),
    ],
)
def test_what_cannot_be_asked_for_is_refused_with_advice(spec: str, says: str) -> None:
    with pytest.raises(ModelError) as caught:
        load(spec)
    assert says in str(caught.value)


def test_every_release_belongs_to_a_variant_and_says_the_activation_it_needs() -> None:
    seen = 0
    for name, config in VARIANTS.items():
        for tag, release in sources.releases(name).items():
            seen += 1
            assert sum(map(bool, (release.file, release.repo, release.asset))) == 1
            assert tag == tag.lower()
            if "/" in name or name.endswith("-quickgelu") or name.startswith("RN"):
                assert release.activation == config.activation == "quick_gelu"
            if release.file:
                assert release.sha256 and len(release.sha256) == 64
    assert seen > 40


def test_default_releases_are_openais_where_there_is_one() -> None:
    for name in ("RN50", "RN101", "RN50x4", "RN50x16", "RN50x64", "ViT-B/32", "ViT-B/16", "ViT-L/14", "ViT-L/14@336px"):
        assert sources.find(name, None)[0] == "openai"
    for name in ("ViT-B-32", "ViT-B-32-quickgelu", "ViT-L-14", "ViT-L-14-336"):
        assert sources.find(name, None)[0] == "openai"
    assert sources.find("ViT-H-14", None)[0] == "laion2b_s32b_b79k"
    assert sources.find("ViT-H-14-378-quickgelu", None)[1].preprocess.resize == "squash"
    assert sources.find("ViT-L-14", "laion2b_s32b_b82k")[1].preprocess.mean == (0.5, 0.5, 0.5)
    assert sources.find("tiny", None)[1].asset == "tiny.safetensors"


@pytest.mark.parametrize("name", ["RN50", "ViT-B/32", "ViT-B-32-256", "ViT-L-14-336", "ViT-H-14", "ViT-g-14", "tiny"])
def test_architectures_are_told_from_the_shapes(name: str) -> None:
    with torch.device("meta"):
        tensors = CLIP(VARIANTS[name]).state_dict()
    config = infer(tensors)
    assert same_architecture(config, VARIANTS[name])
    assert replace(config, activation=VARIANTS[name].activation, preprocess=VARIANTS[name].preprocess) == VARIANTS[name]
    assert same_architecture(VARIANTS[looks_like(config)], VARIANTS[name])


def test_a_variants_finer_resolution_keeps_its_head_width() -> None:
    config = replace(VARIANTS["ViT-H-14"], vision=replace(VARIANTS["ViT-H-14"].vision, image_size=280))
    with torch.device("meta"):
        tensors = CLIP(config).state_dict()
    assert infer(tensors) == config


def test_a_state_dict_without_a_name_has_to_be_named(model: CLIP, tmp_path: Path) -> None:
    torch.save(model.state_dict(), tmp_path / "model.pt")
    assert "name the variant, S/16=PATH or S-16=PATH" in error_of(str(tmp_path / "model.pt"))
    assert load(f"S-16={tmp_path / 'model.pt'}").card.config.activation == "gelu"
    assert load(f"S-16-quickgelu={tmp_path / 'model.pt'}").card.config.activation == "quick_gelu"


def test_the_cards_variant_is_the_one_whose_activation_the_weights_have(archive: Path) -> None:
    path = archive
    assert load(f"S/16={path}").card.variant == "S/16"
    assert load(f"S-16={path}").card.variant == "S-16-quickgelu"
    assert load(str(path)).card.variant == "S/16"


def test_weights_of_another_shape_are_recognised(model: CLIP, tmp_path: Path) -> None:
    torch.save(model.state_dict(), tmp_path / "model.pt")
    message = error_of(f"ViT-B/32={tmp_path / 'model.pt'}")
    assert "does not fit ViT-B/32: tensor positional_embedding has shape [77, 64], not [77, 512]" in message
    assert message.endswith("this looks like S/16")
    assert "this looks like S/16" in error_of(f"RN50={tmp_path / 'model.pt'}")
    other = random_clip(replace(VIT, vision=VisionConfig(64, 192, 2, 16)))
    torch.save(other.state_dict(), tmp_path / "other.pt")
    assert "a ViT of 2 layers and width 192 at 64 pixels" in error_of(f"S/16={tmp_path / 'other.pt'}")


@pytest.mark.parametrize(
    "key", ["visual.proj", "ln_final.weight", "transformer.resblocks.1.mlp.c_fc.bias", "logit_scale"]
)
def test_a_missing_tensor_is_named(model: CLIP, key: str, tmp_path: Path) -> None:
    tensors = model.state_dict()
    del tensors[key]
    torch.save(tensors, tmp_path / "model.pt")
    assert f"tensor {key} is missing" in error_of(f"S/16={tmp_path / 'model.pt'}")


def test_a_foreign_tensor_and_a_wrong_type_are_named(model: CLIP, tmp_path: Path) -> None:
    torch.save({**model.state_dict(), "classifier.bias": torch.zeros(())}, tmp_path / "model.pt")
    assert "tensor classifier.bias is not part of the model" in error_of(f"S/16={tmp_path / 'model.pt'}")
    torch.save({**model.state_dict(), "visual.proj": torch.ones(128, 64, dtype=torch.int8)}, tmp_path / "model.pt")
    assert "tensor visual.proj is int8, not floating-point" in error_of(f"S/16={tmp_path / 'model.pt'}")


def test_batch_counters_may_be_absent(tmp_path: Path) -> None:
    model = random_clip(RESNET)
    tensors = {key: value for key, value in model.state_dict().items() if not key.endswith("num_batches_tracked")}
    torch.save(tensors, tmp_path / "model.pt")
    assert_same(load(f"R={tmp_path / 'model.pt'}"), model)


@pytest.mark.parametrize("form", ["safetensors", "hugging face", "pickle", "torchscript", "random"])
def test_a_model_is_described_as_it_is_read(form: str, model: CLIP, archive: Path, tmp_path: Path) -> None:
    path = tmp_path / ("model.safetensors" if form == "safetensors" else "model.pt")
    if form == "safetensors":
        save(model, path, variant="S/16", dtype=torch.float16)
    elif form == "hugging face":
        hugging_face.model(model.config).save_pretrained(tmp_path)
        path = tmp_path
    elif form == "pickle":
        torch.save({"state_dict": model.state_dict()}, path)
    spec = {"random": "S/16=random:3", "torchscript": f"S/16={archive}", "pickle": f"S/16={path}"}.get(form, str(path))
    resolved = weights.resolve(spec)
    assert weights.describe(resolved) == weights.read(resolved).card


def test_describing_safetensors_reads_no_tensor_but_single_numbers(model: CLIP, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save(model, path)
    resolved = weights.resolve(str(path))
    content = bytearray(path.read_bytes())
    content[-1000:] = bytes(1000)  # what the header does not tell
    path.write_bytes(content)
    card = weights.describe(resolved)
    assert card.config == model.config and card.weights_sha256 == resolved.sha256
    contents = read_checkpoint(resolved.files, shapes_only=True)
    assert {tensor.device.type for tensor in contents.tensors.values() if tensor.numel() > 1} == {"meta"}


@pytest.mark.parametrize("damage", ["cut", "a tensor missing"])
def test_what_is_wrong_with_a_file_is_said_by_its_description(damage: str, model: CLIP, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save(model, path)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-1])
    else:
        tensors = load_file(path)
        del tensors["ln_final.weight"]
        save_file(tensors, path)
    resolved = weights.resolve(f"S/16={path}")
    messages = []
    for look in (weights.describe, weights.read):
        with pytest.raises(ModelError) as caught:
            look(resolved)
        messages.append(str(caught.value))
    assert messages[0] == messages[1] and str(path) in messages[0]
