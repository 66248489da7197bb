"""Every published format gives the embeddings of the library that wrote it; every broken one gives one line."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import pickle
import random
import shutil
import threading
import warnings
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import reference
import torch
from clipmill.clipmodel import download, sources, weights
from clipmill.clipmodel.config import OPENAI_MEAN, VARIANTS, CLIPConfig, PreprocessConfig, TextConfig, VisionConfig
from clipmill.clipmodel.errors import ModelError
from clipmill.clipmodel.infer import infer, looks_like, same_architecture
from clipmill.clipmodel.model import CLIP
from clipmill.clipmodel.weights import Loaded, ModelCard, ModelSpec, load, parse_spec, resolve, save
from random_models import captions, images, random_clip, randomize
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

VIT = CLIPConfig(
    64, VisionConfig(64, 128, 2, 16), TextConfig(64, 1, 2, vocab_size=1024, context_length=77), "quick_gelu"
)
RESNET = CLIPConfig(64, VisionConfig(64, 16, (1, 2, 1, 1)), VIT.text, "quick_gelu")
BOTH = pytest.mark.parametrize("config", [VIT, RESNET], ids=["vit", "resnet"])


@pytest.fixture(autouse=True)
def variants(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The small models as rows of the table, under names as the real ones have; an empty cache; no waiting."""
    rows = {"S/16": VIT, "S-16": replace(VIT, activation="gelu"), "S-16-quickgelu": VIT, "R": RESNET}
    for name, config in rows.items():
        monkeypatch.setitem(VARIANTS, name, config)
    monkeypatch.setenv("CLIPMILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(download, "BACKOFF", 0.0)


@pytest.fixture
def model() -> CLIP:
    return random_clip(VIT)


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A TorchScript archive of `model`. Read only."""
    theirs = reference.model(VIT, random_clip(VIT).state_dict())
    return trace(theirs, VIT, tmp_path_factory.mktemp("traced") / "model.pt")


@torch.inference_mode()
def assert_same(loaded: Loaded, theirs: Any, tolerance: float = 1e-5) -> None:
    """Both embeddings of `loaded` are those of the public library's model."""
    pixels, tokens = images(loaded.model.config), captions(loaded.model.config)
    if hasattr(theirs, "vision_model"):
        image = theirs.visual_projection(theirs.vision_model(pixel_values=pixels).pooler_output)
        text = theirs.text_projection(theirs.text_model(input_ids=tokens).pooler_output)
    else:
        image, text = theirs.encode_image(pixels), theirs.encode_text(tokens)
    assert image.std() > 0.05 and text.std() > 0.05
    assert (loaded.model.encode_image(pixels) - image).abs().max() < tolerance
    assert (loaded.model.encode_text(tokens) - text).abs().max() < tolerance


def error_of(spec: str) -> str:
    """The one line of the ModelError that `spec` gives."""
    with pytest.raises(ModelError) as caught:
        load(spec)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 500
    return message


def trace(theirs: Any, config: CLIPConfig, path: Path) -> Path:
    """A TorchScript archive as OpenAI's are: a traced model, with the sizes as tensors beside the weights."""
    for name, value in (("input_resolution", config.vision.image_size), ("vocab_size", config.text.vocab_size)):
        theirs.__dict__.pop(name, None)
        theirs.register_buffer(name, torch.tensor(value))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(theirs, (images(config), captions(config))).save(str(path))
    return path


# --- what can be asked for -----------------------------------------------------------------------------------------


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


# --- formats -------------------------------------------------------------------------------------------------------


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


def custom_text(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key if key.startswith(("visual.", "logit_scale")) else f"text.{key}": t for key, t in tensors.items()}


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
    settings["interpolation"] = "bilinear"
    (tmp_path / "open_clip_config.json").write_text(json.dumps(values))
    assert "only bicubic is supported" in error_of(str(tmp_path))


def hugging_face(activation: str = "gelu", image_heads: int = 4, **text: Any) -> Any:
    """transformers' model with random weights; its head width, 32, is not one that could be guessed."""
    transformers = pytest.importorskip("transformers")
    ids = {"bos_token_id": 1022, "eos_token_id": 1023}
    common = {"num_hidden_layers": 2, "hidden_act": activation}
    text = {"hidden_size": 64, "intermediate_size": 256, "num_attention_heads": 2, "vocab_size": 1024, **ids, **text}
    vision = {"hidden_size": 128, "intermediate_size": 384, "num_attention_heads": image_heads}
    config = transformers.CLIPConfig(
        projection_dim=48,
        text_config=common | text,
        vision_config=common | vision | {"image_size": 48, "patch_size": 8},
    )
    built = transformers.CLIPModel(config).eval()
    randomize(built)
    return built


@pytest.mark.parametrize("activation", ["gelu", "quick_gelu"])
def test_hugging_face_folders_give_transformers_embeddings(activation: str, tmp_path: Path) -> None:
    theirs = hugging_face(activation)
    theirs.save_pretrained(tmp_path)
    settings = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.5, 0.5, 0.5], "resample": 3, "do_center_crop": True}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings | {"size": {"shortest_edge": 48}}))
    loaded = load(str(tmp_path))
    config = loaded.card.config
    assert (config.embed_dim, config.vision.heads, config.text.heads, config.vision.mlp_width) == (48, 4, 2, 384)
    assert config.preprocess == PreprocessConfig((0.1, 0.2, 0.3), (0.5, 0.5, 0.5))
    assert_same(loaded, theirs)
    assert_same(load(str(tmp_path / "model.safetensors")), theirs)
    assert loaded.card.variant == "custom"

    settings |= {"size": {"height": 48, "width": 48}, "do_center_crop": False}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    assert load(str(tmp_path)).card.config.preprocess.resize == "squash"
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings | {"resample": 2}))
    assert "only 3, bicubic, is supported" in error_of(str(tmp_path))


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
        ({"model_type": "siglip"}, "a model of type siglip, not clip"),
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


# --- what a file is --------------------------------------------------------------------------------------------------


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
    torch.save({**model.state_dict(), "logit_bias": torch.zeros(())}, tmp_path / "model.pt")
    assert "tensor logit_bias is not part of the model" in error_of(f"S/16={tmp_path / 'model.pt'}")
    torch.save({**model.state_dict(), "visual.proj": torch.ones(128, 64, dtype=torch.int8)}, tmp_path / "model.pt")
    assert "tensor visual.proj is int8, not floating-point" in error_of(f"S/16={tmp_path / 'model.pt'}")


def test_batch_counters_may_be_absent(tmp_path: Path) -> None:
    model = random_clip(RESNET)
    tensors = {key: value for key, value in model.state_dict().items() if not key.endswith("num_batches_tracked")}
    torch.save(tensors, tmp_path / "model.pt")
    assert_same(load(f"R={tmp_path / 'model.pt'}"), model)


# --- what is broken --------------------------------------------------------------------------------------------------


class Code:
    """Unpickling this makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("form", ["zip", "legacy", "bare", "torchscript"])
def test_a_pickle_with_code_is_refused_and_does_not_run(model: CLIP, archive: Path, form: str, tmp_path: Path) -> None:
    path, ran = tmp_path / "model.pt", tmp_path / "ran"
    payload = {**model.state_dict(), "code": Code(ran)}
    if form == "bare":
        path.write_bytes(pickle.dumps(payload, protocol=2))
    elif form == "torchscript":
        with zipfile.ZipFile(archive) as good, zipfile.ZipFile(path, "w") as bad:
            for name in good.namelist():
                code = pickle.dumps(Code(ran), protocol=2)
                bad.writestr(name, code if name.endswith("/data.pkl") else good.read(name))
    else:
        torch.save(payload, path, _use_new_zipfile_serialization=form == "zip")
    assert "refusing to unpickle code (" in error_of(f"S/16={path}")
    assert not ran.exists()
    with path.open("rb") as file:  # the file was one that would have
        if form == "bare":
            pickle.load(file)
            assert ran.exists()


def test_a_pickled_module_is_refused(model: CLIP, tmp_path: Path) -> None:
    torch.save(model, tmp_path / "model.pt")
    assert "refusing to unpickle code (clipmill.clipmodel.model.CLIP)" in error_of(f"S/16={tmp_path / 'model.pt'}")


@pytest.mark.parametrize("form", ["zip", "legacy", "torchscript", "safetensors", "ours"])
@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.999])
def test_a_truncated_file_says_so(model: CLIP, archive: Path, form: str, kept: float, tmp_path: Path) -> None:
    path = tmp_path / ("model.safetensors" if form in ("safetensors", "ours") else "model.pt")
    if form == "torchscript":
        shutil.copy(archive, path)
    elif form == "safetensors":
        save_file(model.state_dict(), path)
    elif form == "ours":
        save(model, path)
    else:
        torch.save(model.state_dict(), path, _use_new_zipfile_serialization=form == "zip")
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    message = error_of(f"S/16={path}")
    assert str(path) in message
    assert ("truncated" in message) if kept else ("an empty file" in message)


@pytest.mark.parametrize("form", ["zip", "torchscript"])
def test_a_tampered_archive_is_noticed(model: CLIP, archive: Path, form: str, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    if form == "zip":
        torch.save(model.state_dict(), path)
    else:
        shutil.copy(archive, path)
    raw = bytearray(path.read_bytes())
    raw[raw.index(model.visual.proj.numpy().tobytes()[:64])] ^= 1
    path.write_bytes(raw)
    assert "damaged" in error_of(f"S/16={path}")


def lie(path: Path, **values: Any) -> None:
    """Change the file's clipmill header."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["clipmill"])
    for key, value in values.items():
        where = header["config"]
        *parents, last = key.split("__")
        for parent in parents:
            where = where[parent]
        where[last] = value
    save_file(load_file(path), path, metadata={"clipmill": json.dumps(header)})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"embed_dim": 65}, "its header describes"),
        ({"vision__layers": 10**12}, "its header describes a ViT of 1000000000000 layers"),
        ({"vision__head_width": 0}, "header is not understood"),
        ({"text__heads": "many"}, "header is not understood"),
        ({"vision__head_width": 1000}, "header is not understood"),
        ({"activation": "swish"}, "unknown activation"),
        ({"novelty": 1}, "made by a newer clipmill?"),
        ({"preprocess__mean": None}, "header is not understood"),
    ],
)
def test_a_header_that_lies_is_refused(model: CLIP, change: dict[str, Any], says: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save(model, path)
    lie(path, **change)
    assert says in error_of(str(path))


def test_a_safetensors_header_that_is_damaged_is_refused(model: CLIP, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save(model, path)
    raw = path.read_bytes()
    for broken in (raw[:8] + b"{]" + raw[10:], b"\xff" * 8 + raw[8:], os.urandom(7) + b"\x00" + raw[8:], b"x" * 500):
        path.write_bytes(broken)
        assert "truncated or damaged safetensors (" in error_of(f"S/16={path}")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"<!doctype html><title>Sign in</title>", "not a checkpoint"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "a Git LFS pointer"),
        (b"\x80", "not a checkpoint"),
        (b"\x80\x02" + bytes(range(100, 200)), "not a checkpoint"),
        (pickle.dumps([1, 2, 3], protocol=2), "truncated or damaged"),
        (b"PK\x03\x04 and nothing like a zip", "truncated or damaged zip"),
    ],
)
def test_what_is_no_checkpoint_says_so(content: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(content)
    assert says in error_of(f"S/16={tmp_path / 'model.pt'}")


def test_other_things_in_checkpoints_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save([torch.zeros(2)], path)
    assert "holds a list, not a state dict" in error_of(str(path))
    torch.save({"fc.weight": torch.zeros(2, 2), "conv1.weight": torch.zeros(2, 2)}, path)
    assert "no CLIP model: its tensors are conv1.weight, fc.weight" in error_of(str(path))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert "truncated or damaged" in error_of(str(path))
    assert "without config.json" in error_of(str(tmp_path))
    save_file({"visual.conv1.weight": torch.zeros(2, 2)}, tmp_path / "w.safetensors")
    assert "tensor visual.conv1.weight has shape [2, 2], not one of 4 dimensions" in error_of(
        str(tmp_path / "w.safetensors")
    )


@pytest.mark.parametrize("form", ["zip", "legacy", "torchscript", "ours"])
def test_random_damage_never_gives_anything_but_a_model_or_a_line(
    model: CLIP, archive: Path, form: str, tmp_path: Path
) -> None:
    good, path = tmp_path / "good", tmp_path / "bad"
    if form == "torchscript":
        good = archive
    elif form == "ours":
        save(model, good)
    else:
        torch.save(model.state_dict(), good, _use_new_zipfile_serialization=form == "zip")
    generator, refused = random.Random(form), 0
    for _ in range(40):
        raw = bytearray(good.read_bytes())
        for _ in range(3):  # where the structure is: both ends
            place = generator.randrange(3000)
            raw[generator.choice([place, -1 - place])] = generator.randrange(256)
        path.write_bytes(raw)
        try:
            load(f"S/16={path}")
        except ModelError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 10


# --- releases ------------------------------------------------------------------------------------------------------


class Server:
    """Files over HTTP on loopback, with ranges; it can break off, refuse, or ignore ranges."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.requests: list[tuple[str, str | None]] = []  # path, Range
        self.breaks: list[int] = []  # bytes to send before breaking off, one entry for each answer
        self.statuses: list[int] = []  # to answer with, before anything else
        self.ranges = True
        self.error_codes = False  # whether to say why there is nothing, as the Hugging Face hub does
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.answer(self)

            def do_HEAD(self) -> None:
                outer.answer(self)

            def log_message(self, *args: Any) -> None:
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        asked = request.headers.get("Range")
        self.requests.append((request.path, asked))
        content = self.files.get(request.path)
        if self.statuses or content is None:
            request.send_response(self.statuses.pop(0) if self.statuses else 404)
            if self.error_codes:
                request.send_header("X-Error-Code", "EntryNotFound")
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.ranges else 0
        if start >= len(content) > 0:
            request.send_response(416)
            request.send_header("Content-Range", f"bytes */{len(content)}")
            request.end_headers()
            return
        request.send_response(206 if start else 200)
        request.send_header("Content-Length", str(len(content) - start))
        request.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        request.send_header("X-Repo-Commit", "c" * 40)
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        request.end_headers()
        if request.command == "GET":
            end = start + self.breaks.pop(0) if self.breaks else len(content)
            request.wfile.write(content[start:end])


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.http.shutdown()
    running.http.server_close()


@pytest.fixture
def release(server: Server, archive: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """S/16 has OpenAI's release, served from loopback; returns the file."""
    content = archive.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    rows = {"openai": sources.Release(file="S-16.pt", sha256=sha256, activation="quick_gelu")}
    for name in ("S/16", "S-16"):
        monkeypatch.setitem(sources._RELEASES, name, rows)
    server.files[f"/models/{sha256}/S-16.pt"] = content
    monkeypatch.setenv("CLIPMILL_OPENAI_URL", f"{server.url}/models/")
    return content


def cache(tmp_path: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (tmp_path / "cache").iterdir() if path.suffix != ".lock"}


def test_a_release_is_downloaded_verified_and_cached(
    server: Server, release: bytes, model: CLIP, tmp_path: Path
) -> None:
    told: list[tuple[int, int | None]] = []
    loaded = load("S/16", progress=lambda done, total: told.append((done, total)))
    assert_same(loaded, reference.model(VIT, model.state_dict()))
    assert loaded.card.weights == "openai"
    assert loaded.card.weights_sha256 == hashlib.sha256(release).hexdigest()
    assert told[-1] == (len(release), len(release))
    assert cache(tmp_path) == {"S-16.pt": release}
    assert len(server.requests) == 1

    again = load("S-16=openai")
    assert len(server.requests) == 1
    assert again.card.config == loaded.card.config  # QuickGELU, whichever way it was asked for
    assert again.card.variant == "S-16-quickgelu"


def test_reading_makes_no_request(
    server: Server, release: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = pickle.loads(pickle.dumps(resolve("S/16")))
    server.requests.clear()
    monkeypatch.setattr("urllib.request.urlopen", None)
    assert load(found).card == ModelCard("S/16", "openai", hashlib.sha256(release).hexdigest(), VIT)
    load(f"S/16={tmp_path / 'cache' / 'S-16.pt'}")
    assert server.requests == []


@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "no ranges"])
def test_an_interrupted_download_goes_on_where_it_stopped(
    server: Server, release: bytes, ranges: bool, tmp_path: Path
) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "S-16.pt.part").write_bytes(release[:100_000])
    server.ranges = ranges
    resolve("S/16")
    assert cache(tmp_path) == {"S-16.pt": release}
    assert [asked for _, asked in server.requests] == ["bytes=100000-"]


def test_dropped_connections_and_busy_servers_are_tried_again(server: Server, release: bytes, tmp_path: Path) -> None:
    server.statuses = [503, 429]
    server.breaks = [1000] * 8  # more often than there are attempts, but each brings bytes
    resolve("S/16")
    assert cache(tmp_path) == {"S-16.pt": release}
    assert [asked for _, asked in server.requests][2:5] == [None, "bytes=1000-", "bytes=2000-"]


def test_a_whole_or_overlong_part_is_settled(server: Server, release: bytes, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    part = tmp_path / "cache" / "S-16.pt.part"
    part.write_bytes(release)
    resolve("S/16")
    assert cache(tmp_path) == {"S-16.pt": release}
    (tmp_path / "cache" / "S-16.pt").unlink()
    part.write_bytes(release + b"more")
    resolve("S/16")
    assert cache(tmp_path) == {"S-16.pt": release}


def test_a_download_with_another_hash_is_deleted_and_refused(server: Server, release: bytes, tmp_path: Path) -> None:
    (path,) = server.files
    server.files[path] = release[:-1] + b"?"
    message = error_of("S/16")
    assert f"not {hashlib.sha256(release).hexdigest()}" in message and "try again" in message
    assert cache(tmp_path) == {}
    server.files[path] = release
    load("S/16")


def test_a_cached_file_that_was_changed_is_refused(server: Server, release: bytes, tmp_path: Path) -> None:
    resolve("S/16")
    path = tmp_path / "cache" / "S-16.pt"
    path.write_bytes(release[:-1] + b"?")
    assert f"{path} has sha256" in (message := error_of("S/16"))
    assert "delete it and try again" in message


def test_offline_says_where_to_put_the_file(
    server: Server, release: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for url, says in [
        ("http://127.0.0.1:9", "cannot download http://127.0.0.1:9/"),
        (f"{server.url}/elsewhere", "404"),
        ("http://name.invalid", "cannot download http://name.invalid/"),
    ]:
        monkeypatch.setenv("CLIPMILL_OPENAI_URL", url)
        message = error_of("S/16")
        assert says in message
        assert f"put the file at {tmp_path / 'cache' / 'S-16.pt'}, or give its path: S/16=PATH" in message
    (tmp_path / "cache" / "S-16.pt").write_bytes(release)
    assert load("S/16").card.weights == "openai"


def test_a_silent_server_is_given_up(
    server: Server, release: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(download, "TIMEOUT", 0.05)
    monkeypatch.setattr(download, "ATTEMPTS", 2)
    monkeypatch.setattr(Server, "answer", lambda self, request: threading.Event().wait(0.3))
    assert "timed out" in error_of("S/16")


def test_a_cache_that_cannot_be_written_says_so(
    release: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("CLIPMILL_CACHE", str(tmp_path / "file"))
    assert "set CLIPMILL_CACHE to a folder" in error_of("S/16")


def test_downloads_at_the_same_time_do_not_mix(server: Server, release: bytes, tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: resolve("S/16"), range(8)))
    assert len(set(found)) == 1
    assert cache(tmp_path) == {"S-16.pt": release}
    assert len(server.requests) == 1


@pytest.fixture
def hub(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Server:
    """A Hugging Face endpoint on loopback with an empty cache; S-16 has a release there."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    halves = PreprocessConfig((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    row = sources.Release(repo="org/small", activation="quick_gelu", preprocess=halves)
    monkeypatch.setitem(sources._RELEASES, "S-16", {"laion_s1b": row})
    return server


@pytest.mark.parametrize("file", ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"])
@pytest.mark.parametrize("mirror", [False, True], ids=["hub", "mirror"])
def test_hugging_face_releases_are_downloaded_verified_and_cached(
    hub: Server, mirror: bool, file: str, model: CLIP, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    hub.error_codes = not mirror
    path = tmp_path / file
    save_file(model.state_dict(), path) if file.endswith("safetensors") else torch.save(model.state_dict(), path)
    hub.files[f"/org/small/resolve/main/{file}"] = path.read_bytes()
    told: list[tuple[int, int | None]] = []
    loaded = load("S-16=laion-s1B", progress=lambda done, total: told.append((done, total)))
    assert_same(loaded, reference.model(VIT, model.state_dict()))
    assert loaded.card.weights == "laion_s1b (hf:org/small)"
    assert loaded.card.variant == "S-16-quickgelu"
    assert loaded.card.config.preprocess.mean == (0.5, 0.5, 0.5)
    assert told[-1] == (path.stat().st_size, path.stat().st_size)
    hub.requests.clear()
    assert load("S-16").card == loaded.card
    assert hub.requests == []
    assert capfd.readouterr().err == ""

    (blob,) = [path for path in (tmp_path / "hub").rglob("*") if len(path.name) == 64]
    blob.write_bytes(blob.read_bytes()[:-1] + b"?")
    assert f"{blob} has sha256" in error_of("S-16")


def test_an_unreachable_or_incomplete_hub_says_what_to_do(hub: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    assert "org/small" in (message := error_of("S-16"))
    assert message.endswith("get its open_clip_model.safetensors and give S-16=PATH")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "cannot download org/small from Hugging Face (" in error_of("S-16")


def test_the_packaged_model_is_found_by_name_or_its_absence_explained(model: CLIP, tmp_path: Path) -> None:
    path = tmp_path / "elsewhere.safetensors"
    save(model, path, variant="S/16")
    try:
        card = load("tiny").card
    except ModelError as error:
        assert "this installation lacks tiny.safetensors" in str(error)
    else:
        assert (card.variant, card.weights) == ("tiny", "clipmill")
        assert card.config.vision == VARIANTS["tiny"].vision


def test_defaults_stand_where_no_file_says_otherwise(model: CLIP, tmp_path: Path) -> None:
    torch.save(model.state_dict(), tmp_path / "model.pt")
    assert load(f"S/16={tmp_path / 'model.pt'}").card.config.preprocess.mean == OPENAI_MEAN
    shutil.copy(tmp_path / "model.pt", tmp_path / "model.safetensors")  # told by content, not by name
    assert load(f"S/16={tmp_path / 'model.safetensors'}").model.config == VIT
