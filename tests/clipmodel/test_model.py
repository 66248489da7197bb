"""The model is the public one: names, shapes, initialisation, and outputs in float32."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import hugging_face
import pytest
import reference
import torch
from clipmill.clipmodel.config import VARIANTS, CLIPConfig, TextConfig, VisionConfig
from clipmill.clipmodel.convert import canonical
from clipmill.clipmodel.model import CLIP
from random_models import captions, images, random_clip
from torch import Tensor

OPENAI = ["RN50", "RN101", "RN50x4", "RN50x16", "RN50x64", "ViT-B/32", "ViT-B/16", "ViT-L/14", "ViT-L/14@336px"]
LONG = {"RN50x16", "RN50x64", "ViT-L/14", "ViT-L/14@336px"}  # over about ten seconds on two cores

SMALL_VIT = CLIPConfig(128, VisionConfig(64, 256, 3, 16), TextConfig(128, 2, 3, vocab_size=2048), "quick_gelu")
SMALL_RESNET = CLIPConfig(128, VisionConfig(64, 32, (1, 2, 1, 1)), TextConfig(128, 2, 3, vocab_size=2048), "quick_gelu")


def by_cost(names: list[str]) -> list[Any]:
    return [pytest.param(name, marks=pytest.mark.long if name in LONG else ()) for name in names]


@pytest.fixture(autouse=True)
def without_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


def assert_same(ours: Tensor, theirs: Tensor) -> None:
    """Within 1e-4, of outputs large enough for that to say something, and as near relative to their norm."""
    assert theirs.std() > 0.05
    assert (ours - theirs).abs().max() < 1e-4
    assert (ours - theirs).norm() < 1e-5 * theirs.norm()


@pytest.mark.parametrize("name", OPENAI)
def test_names_and_shapes_are_the_references(name: str) -> None:
    config = VARIANTS[name]
    with torch.device("meta"):
        ours = CLIP(config).state_dict()
    theirs = reference.skeleton(config).state_dict()
    assert {key: tuple(t.shape) for key, t in ours.items()} == {key: tuple(t.shape) for key, t in theirs.items()}


@pytest.mark.parametrize("name", by_cost(OPENAI))
def test_both_towers_and_the_logits_equal_the_references(name: str) -> None:
    config = VARIANTS[name]
    ours = random_clip(config)
    theirs = reference.model(config, ours.state_dict())
    pixels, tokens = images(config, 1 if config.vision.image_size >= 384 or name in LONG else 2), captions(config)
    assert_same(ours.encode_image(pixels), theirs.encode_image(pixels))
    assert_same(ours.encode_text(tokens), theirs.encode_text(tokens))
    for mine, reference_logits in zip(ours(pixels, tokens), theirs(pixels, tokens), strict=True):
        assert_same(mine, reference_logits)


@pytest.mark.parametrize("config", [SMALL_VIT, SMALL_RESNET, VARIANTS["RN50"]], ids=["vit", "resnet", "RN50"])
def test_the_comparison_is_of_outputs_that_depend_on_the_input(config: CLIPConfig) -> None:
    model = random_clip(config)
    first, second = model.encode_image(images(config))
    assert (first - second).norm() > 0.05 * first.norm()
    features = model.encode_text(captions(config))
    assert (features[0] - features[1]).norm() > 0.05 * features[0].norm()


def assert_equals_hugging_face(config: CLIPConfig, count: int = 2) -> None:
    theirs = hugging_face.model(config)
    with torch.device("meta"):
        ours = CLIP(config).eval()
    ours.load_state_dict(canonical(theirs.state_dict()), assign=True)
    pixels, tokens = images(config, count), captions(config)
    output = theirs(input_ids=tokens, pixel_values=pixels)
    projected_image = theirs.visual_projection(theirs.vision_model(pixel_values=pixels).pooler_output)
    projected_text = theirs.text_projection(theirs.text_model(input_ids=tokens).pooler_output)
    assert_same(ours.encode_image(pixels), projected_image)
    assert_same(ours.encode_text(tokens), projected_text)
    assert_same(ours(pixels, tokens)[0], output.logits_per_image)


@pytest.mark.parametrize("name", by_cost([name for name in OPENAI if name.startswith("ViT")]))
def test_vits_equal_hugging_faces(name: str) -> None:
    assert_equals_hugging_face(VARIANTS[name], count=1)


@pytest.mark.parametrize("name", ["ViT-H-14", "ViT-g-14", "ViT-bigG-14", "ViT-H-14-378-quickgelu"])
def test_narrow_copies_with_the_large_models_ratios_equal_hugging_faces(name: str) -> None:
    vision = VARIANTS[name].vision
    narrow = replace(vision, width=2 * vision.head_width, layers=3, image_size=56)
    assert narrow.head_width != 64 and narrow.heads == 2
    text = TextConfig(128, 2, 3, vocab_size=2048)
    assert_equals_hugging_face(CLIPConfig(96, narrow, text, VARIANTS[name].activation))


@pytest.mark.parametrize(
    ("name", "millions"),
    [("ViT-B-32", 151), ("ViT-L-14", 428), ("ViT-H-14", 986), ("ViT-g-14", 1367), ("ViT-bigG-14", 2540)],
)
def test_parameter_counts_are_the_published_ones(name: str, millions: int) -> None:
    with torch.device("meta"):
        model = CLIP(VARIANTS[name])
    assert round(sum(p.numel() for p in model.parameters()) / 1e6) == millions


@pytest.mark.parametrize("config", [SMALL_VIT, SMALL_RESNET], ids=["vit", "resnet"])
def test_a_fresh_models_spreads_are_the_references_tensor_by_tensor(config: CLIPConfig) -> None:
    torch.manual_seed(0)
    ours = CLIP(config).state_dict()
    vision, text = config.vision, config.text
    theirs = reference.module("model").CLIP(
        *(config.embed_dim, vision.image_size, vision.layers, vision.width, vision.patch_size),
        *(text.context_length, text.vocab_size, text.width, text.heads, text.layers),
    )
    for key, like in theirs.state_dict().items():
        if like.numel() >= 4096:  # enough for the sample's deviation to be near the distribution's
            assert ours[key].std().item() == pytest.approx(like.std().item(), rel=0.06), key
            assert ours[key].mean().abs() < 0.06 * like.std(), key
        elif like.numel() > 1 and like.std() == 0:  # biases and norms
            assert torch.equal(ours[key], like), key


def test_a_fresh_text_transformers_spreads_follow_width_and_depth() -> None:
    torch.manual_seed(0)
    config = replace(SMALL_VIT, text=replace(SMALL_VIT.text, width=192, heads=3, layers=5))
    model = CLIP(config)
    width, depth = 192**-0.5, (2 * 5) ** -0.5
    expected = {
        "token_embedding.weight": 0.02,
        "positional_embedding": 0.01,
        "text_projection": width,
        "transformer.resblocks.4.attn.in_proj_weight": width,
        "transformer.resblocks.4.attn.out_proj.weight": width * depth,
        "transformer.resblocks.4.mlp.c_fc.weight": width * 0.5**0.5,
        "transformer.resblocks.4.mlp.c_proj.weight": width * depth,
        "visual.positional_embedding": 256**-0.5,
        "visual.proj": 256**-0.5,
    }
    tensors = model.state_dict()
    assert {key: tensors[key].std().item() for key in expected} == pytest.approx(expected, rel=0.06)


def test_a_fresh_resnets_blocks_start_as_identities() -> None:
    tensors = CLIP(SMALL_RESNET).state_dict()
    ends = [tensor for key, tensor in tensors.items() if key.endswith("bn3.weight") and ".layer" in key]
    assert len(ends) == 5
    assert not any(tensor.any() for tensor in ends)


def test_the_temperature_starts_at_7_hundredths() -> None:
    assert CLIP(SMALL_VIT).logit_scale.item() == pytest.approx(math.log(1 / 0.07))


@pytest.mark.parametrize("config", [SMALL_VIT, VARIANTS["tiny"]], ids=["small", "tiny"])
def test_nothing_after_eos_reaches_the_features(config: CLIPConfig) -> None:
    model = random_clip(config)
    tokens = captions(config, lengths=(3, 9, 14))
    padded = model.encode_text(tokens)
    cut = model.encode_text(tokens[:, :16])
    assert (cut - padded).abs().max() < 1e-5
    for row, feature in zip(tokens, padded, strict=True):
        alone = model.encode_text(row[None, : int(row.argmax()) + 1])[0]
        assert (alone - feature).abs().max() < 1e-5
    noise = torch.where(torch.arange(77) > tokens.argmax(dim=1, keepdim=True), 5, tokens)
    assert torch.equal(model.encode_text(noise), padded)


def test_shorter_rows_than_eos_change_the_features() -> None:
    """The counterpart: what stands before [EOS] does count."""
    model = random_clip(SMALL_VIT)
    tokens = captions(SMALL_VIT)
    changed = tokens.clone()
    changed[:, 1] = (tokens[:, 1] % 100) + 1
    assert (model.encode_text(changed) - model.encode_text(tokens)).abs().max() > 1e-2


@pytest.mark.parametrize("config", [SMALL_VIT, SMALL_RESNET], ids=["vit", "resnet"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_precisions_keep_the_direction(config: CLIPConfig, dtype: torch.dtype) -> None:
    model = random_clip(config)
    pixels, tokens = images(config), captions(config)
    image, text = model.encode_image(pixels), model.encode_text(tokens)
    model.to(dtype)
    for full, other in ((image, model.encode_image(pixels.to(dtype))), (text, model.encode_text(tokens))):
        assert other.dtype == dtype
        similarity = torch.nn.functional.cosine_similarity(full.double(), other.double(), dim=-1)
        assert similarity.min() > (0.998 if dtype is torch.bfloat16 else 1 - 1e-9)
