"""SigLIP's towers, logits and files are those of the public libraries, and the fast way through them is the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import siglip_kit
import torch
from clipmill.clipmodel.config import VARIANTS, CLIPConfig
from clipmill.clipmodel.convert import canonical
from clipmill.clipmodel.flops import Flops
from clipmill.clipmodel.inference import compile_blocks, for_inference
from clipmill.clipmodel.model import CLIP
from clipmill.clipmodel.weights import describe, load, resolve, save
from random_models import images
from safetensors.torch import save_file
from torch import Tensor
from vocabulary_kit import gemma_file
from weights_kit import error_of

SIGLIPS = [name for name in VARIANTS if "-SigLIP" in name]
SMALL = siglip_kit.narrow("ViT-B-16-SigLIP", image_size=64)


@pytest.fixture(autouse=True)
def without_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


def ours_of(theirs: Any, config: CLIPConfig) -> CLIP:
    with torch.device("meta"):
        ours = CLIP(config).eval()
    ours.load_state_dict(canonical(theirs.state_dict()), assign=True)
    return ours


def features(theirs: Any, pixels: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    image = theirs.vision_model(pixel_values=pixels).pooler_output
    return image, theirs.text_model(input_ids=tokens).pooler_output


def assert_same(ours: CLIP, theirs: Any, config: CLIPConfig, count: int = 2) -> None:
    pixels, tokens = images(config, count), siglip_kit.tokens(config, count)
    expected = features(theirs, pixels, tokens)
    for mine, reference in zip((ours.encode_image(pixels), ours.encode_text(tokens)), expected, strict=True):
        assert reference.std() > 0.05
        assert (mine - reference).abs().max() < 1e-4
        assert count == 1 or (reference[0] - reference[1]).norm() > 0.05 * reference[0].norm()
    logits = theirs(input_ids=tokens, pixel_values=pixels).logits_per_image
    assert (ours(pixels, tokens)[0] - logits).abs().max() < 1e-4


def test_at_its_true_size_the_base_model_equals_transformers() -> None:
    config = VARIANTS["ViT-B-16-SigLIP"]
    theirs = siglip_kit.model(config)
    assert_same(ours_of(theirs, config), theirs, config, count=1)


@pytest.mark.parametrize("name", ["ViT-L-16-SigLIP2-256", "ViT-SO400M-14-SigLIP-384", "ViT-SO400M-16-SigLIP2-384"])
def test_narrow_copies_of_the_large_models_equal_transformers(name: str) -> None:
    config = siglip_kit.narrow(name)
    theirs = siglip_kit.model(config)
    assert_same(ours_of(theirs, config), theirs, config)


@pytest.mark.parametrize("name", SIGLIPS)
def test_every_variant_has_the_published_sizes(name: str) -> None:
    """Parameters, in millions, of the image and the text tower (tables of the papers and of open_clip's releases)."""
    config = VARIANTS[name]
    with torch.device("meta"):
        model = CLIP(config)
    image = sum(p.numel() for p in model.visual.parameters()) / 1e6
    text = sum(p.numel() for n, p in model.named_parameters() if not n.startswith("visual.")) / 1e6
    expected = {"B": (93, 110 if "SigLIP2" not in name else 282), "L": (316, 336 if "SigLIP2" not in name else 565)}
    at_image, at_text = expected.get(name[4], (428, 450 if "SigLIP2" not in name else 708))
    assert (image, text) == (pytest.approx(at_image, rel=0.01), pytest.approx(at_text, rel=0.01))
    assert config.embed_dim == config.vision.width and config.text.context_length == 64


@pytest.mark.parametrize("packed_for", [0, 3, 2])
def test_the_copy_that_only_encodes_says_what_the_model_says(packed_for: int) -> None:
    theirs = siglip_kit.model(SMALL)
    assert_same(for_inference(ours_of(theirs, SMALL), images=packed_for), theirs, SMALL, count=3)


def test_compiled_and_in_half_precision_the_direction_stays() -> None:
    model = ours_of(siglip_kit.model(SMALL), SMALL)
    pixels, tokens = images(SMALL, 3), siglip_kit.tokens(SMALL)
    copy = for_inference(model, "bf16")
    compile_blocks(copy, "eager")
    for half, full in (
        (copy.encode_image(pixels), model.encode_image(pixels)),
        (copy.encode_text(tokens), model.encode_text(tokens)),
    ):
        assert half.dtype == torch.float32
        assert torch.cosine_similarity(half, full).min() > 0.999


def test_padding_counts() -> None:
    model = ours_of(siglip_kit.model(SMALL), SMALL)
    tokens = siglip_kit.tokens(SMALL)
    assert (model.encode_text(tokens) - model.encode_text(tokens[:, :50])).abs().max() > 0.01


def test_a_folder_of_transformers_loads_with_its_settings_and_tokenizer(tmp_path: Path) -> None:
    theirs = siglip_kit.model(SMALL)
    siglip_kit.save(theirs, tmp_path, gemma_file(tmp_path))
    loaded = load(str(tmp_path))
    assert loaded.model.config == replace(
        SMALL,
        preprocess=replace(SMALL.preprocess, interpolation="bilinear", steps="transformers"),
        vision=replace(SMALL.vision, mlp_ratio=loaded.model.config.vision.mlp_ratio),
    )
    assert_same(loaded.model, theirs, SMALL)
    assert loaded.card.vocabulary is not None and loaded.card.vocabulary.name == "tokenizer.json"
    assert loaded.tokenizer("a cat").shape == (1, 64)
    assert loaded.card == describe(resolve(str(tmp_path)))
    values = json.loads(json.dumps(loaded.card.as_json()))
    assert values["vocabulary"]["file"] == "tokenizer.json" and len(values["vocabulary"]["sha256"]) == 64
    expected = {"scale": theirs.logit_scale.exp().item(), "bias": theirs.logit_bias.item()}
    assert values["sigmoid"] == pytest.approx(expected)


def test_a_folder_of_open_clip_loads_with_its_settings_and_tokenizer(tmp_path: Path) -> None:
    theirs = siglip_kit.model(SMALL)
    save_file(siglip_kit.open_clip_layout(theirs), tmp_path / "open_clip_model.safetensors")
    model = {"vision_cfg": {"image_size": 64, "timm_model_name": "vit_base_patch16_siglip_224", "timm_pool": "map"}}
    preprocess = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "squash"}
    settings = {"model_cfg": model, "preprocess_cfg": preprocess}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(settings))
    gemma_file(tmp_path)
    loaded = load(str(tmp_path))
    assert loaded.model.config.preprocess == SMALL.preprocess
    assert_same(loaded.model, theirs, SMALL)


def test_what_is_saved_loads_as_it_was(tmp_path: Path) -> None:
    model = ours_of(siglip_kit.model(SMALL), SMALL)
    save(model, tmp_path / "model.safetensors", variant="mine")
    gemma_file(tmp_path)
    loaded = load(str(tmp_path / "model.safetensors"))
    assert loaded.model.config == SMALL and loaded.card.variant == "mine"
    for key, tensor in model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[key], tensor)


def test_without_a_tokenizer_the_weights_are_refused(tmp_path: Path) -> None:
    siglip_kit.save(siglip_kit.model(SMALL), tmp_path, gemma_file(tmp_path))
    (tmp_path / "tokenizer.json").unlink()
    assert "there is no tokenizer.json or spiece.model" in error_of(str(tmp_path))


def test_a_tensor_that_is_missing_is_named(tmp_path: Path) -> None:
    tensors = siglip_kit.open_clip_layout(siglip_kit.model(SMALL))
    del tensors["visual.trunk.attn_pool.kv.bias"]
    save_file(tensors, tmp_path / "model.safetensors")
    assert "tensor visual.trunk.attn_pool.kv.bias is missing" in error_of(str(tmp_path / "model.safetensors"))


def test_the_flops_of_a_caption_do_not_depend_on_its_length() -> None:
    flops = Flops.of(VARIANTS["ViT-B-16-SigLIP"])
    assert flops.total(0, [5, 64, 200]) == flops.total(0, [64, 64, 64])
    assert flops.image == pytest.approx(35.9e9, rel=0.03)  # 17.95 GMACs in timm's tables, pooling included
