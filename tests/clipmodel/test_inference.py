"""The copy that only encodes says what the model says, in float32 to within rounding, and leaves the model alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from clipmill.clipmodel import fused
from clipmill.clipmodel.config import CLIPConfig, Precision, TextConfig, VisionConfig
from clipmill.clipmodel.fused import Convolution, HalfLinear, OneDNNLinear, PackedLinear
from clipmill.clipmodel.inference import for_inference
from clipmill.clipmodel.model import CLIP
from random_models import captions, images, random_clip
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

TEXT = TextConfig(128, 2, 3, vocab_size=2048)
VIT = CLIPConfig(128, VisionConfig(64, 128, 3, 16), TEXT, "quick_gelu")
RESNET = CLIPConfig(128, VisionConfig(64, 32, (1, 2, 1, 1)), TEXT, "quick_gelu")
CONFIGS = {
    "quick_gelu": VIT,
    "gelu": replace(VIT, activation="gelu"),
    "gelu_tanh": replace(VIT, activation="gelu_tanh"),
    "a stride that leaves pixels over": replace(VIT, vision=replace(VIT.vision, image_size=71)),
    "one layer": replace(VIT, vision=replace(VIT.vision, layers=1), text=replace(TEXT, layers=1)),
    "resnet": RESNET,
}
ALL = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
BOTH = pytest.mark.parametrize("config", [VIT, RESNET], ids=["vit", "resnet"])


@pytest.fixture(autouse=True)
def without_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


def assert_near(ours: Tensor, theirs: Tensor) -> None:
    assert theirs.std() > 0.05 and ours.dtype == theirs.dtype
    assert (ours - theirs).abs().max() < 1e-4
    assert (ours - theirs).norm() < 1e-5 * theirs.norm()


def assert_copies(copy: CLIP, model: CLIP) -> None:
    pixels, tokens = images(model.config, 3), captions(model.config)
    assert_near(copy.encode_image(pixels), model.encode_image(pixels))
    assert_near(copy.encode_text(tokens), model.encode_text(tokens))
    assert_near(copy(pixels, tokens)[0], model(pixels, tokens)[0])


@ALL
@pytest.mark.parametrize("packed_for", [0, 3, 2])
@pytest.mark.parametrize("onednn", [True, False])
def test_in_float32_the_answer_is_the_models(
    config: CLIPConfig, packed_for: int, onednn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Packed for no batch, for this one, and for another; by either library."""
    monkeypatch.setattr("clipmill.clipmodel.layers.prefers_onednn", lambda: onednn)
    model = random_clip(config)
    assert_copies(for_inference(model, images=packed_for), model)


@ALL
def test_so_it_is_where_torch_has_no_libraries_of_intels(config: CLIPConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    model = random_clip(config)
    copy = for_inference(model, images=3)
    assert not any(isinstance(module, (OneDNNLinear, PackedLinear)) for module in copy.modules())
    assert_copies(copy, model)


@BOTH
@pytest.mark.parametrize(("precision", "least"), [("bf16", 0.999), ("fp16", 0.99999)])
@pytest.mark.parametrize("packed", [True, False])
def test_in_half_precision_the_direction_stays_and_outputs_are_float32(
    config: CLIPConfig, precision: Precision, least: float, packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: packed)
    model = random_clip(config)
    copy = for_inference(model, precision)
    pixels, tokens = images(config, 3), captions(config)
    for ours, theirs in (
        (copy.encode_image(pixels), model.encode_image(pixels)),
        (copy.encode_text(tokens), model.encode_text(tokens)),
    ):
        assert ours.dtype == torch.float32
        assert least < cosine_similarity(ours, theirs).min() and not torch.allclose(ours, theirs, atol=1e-6)


def test_half_precision_is_where_the_work_is() -> None:
    copy = for_inference(random_clip(VIT), "bf16")
    half = {name for name, module in copy.named_modules() if isinstance(module, HalfLinear)}
    blocks = [f"{tower}transformer.resblocks.0.blocks.{i}" for tower in ("", "visual.") for i in (0, 1)]
    layers = ("attn.in_proj", "attn.out_proj", "mlp.0", "mlp.2")
    assert half == {"visual.conv1.linear", *(f"{block}.{layer}" for block in blocks for layer in layers)}
    folded = for_inference(random_clip(RESNET), "fp16")
    convolutions = [module for module in folded.visual.modules() if isinstance(module, (Convolution, nn.Conv2d))]
    assert {module.weight.dtype for module in convolutions} == {torch.float16}


@BOTH
def test_the_model_stays_as_it_is_and_shares_what_is_not_changed(config: CLIPConfig) -> None:
    model, same = random_clip(config), random_clip(config)
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    copy = for_inference(model.train(), "bf16", images=2)
    assert model.training and not copy.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    for (name, tensor), (other, like) in zip(model.state_dict().items(), same.state_dict().items(), strict=True):
        assert name == other and torch.equal(tensor, like)
    for name in ("token_embedding.weight", "text_projection", "ln_final.weight"):
        assert copy.get_parameter(name) is model.get_parameter(name)
    last = "transformer.resblocks.{}.attn.in_proj_weight"
    assert copy.get_parameter(last.format(1)) is model.get_parameter(last.format(2))


@pytest.mark.parametrize("onednn", [True, False])
def test_a_text_tower_may_be_packed_for_captions_of_the_contexts_length(
    onednn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clipmill.clipmodel.layers.prefers_onednn", lambda: onednn)
    model = random_clip(VIT)
    copy = for_inference(model, texts=3)
    if fused.has_mkldnn(torch.float32) if onednn else fused.has_mkl():
        layer = copy.get_submodule("transformer.resblocks.0.blocks.0.mlp.0")
        assert isinstance(layer, OneDNNLinear if onednn else PackedLinear)
    for count in (3, 2):  # what it is packed for, and fewer
        tokens = captions(VIT)[:count]
        assert len(tokens) == count
        assert_near(copy.encode_text(tokens), model.encode_text(tokens))


def test_the_text_tower_is_not_held_twice_in_float32() -> None:
    model = random_clip(VIT)
    ours = {tensor.data_ptr() for tensor in model.parameters()}
    copy = for_inference(model)
    mlp = copy.get_submodule("transformer.resblocks.0.blocks.0.mlp.0")
    assert isinstance(mlp.weight, Tensor) and mlp.weight.data_ptr() in ours


@pytest.mark.parametrize("onednn", [True, False])
def test_large_image_towers_are_not_packed(onednn: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def packed(copy: CLIP) -> int:
        layers = [module for module in copy.modules() if isinstance(module, (PackedLinear, OneDNNLinear))]
        return sum(isinstance(layer, PackedLinear) or layer.weight.is_mkldnn for layer in layers)

    monkeypatch.setattr("clipmill.clipmodel.layers.prefers_onednn", lambda: onednn)
    has_library = fused.has_mkldnn(torch.float32) if onednn else fused.has_mkl()
    assert packed(for_inference(random_clip(VIT), images=4)) == (9 if has_library else 0)  # in that tower alone
    monkeypatch.setattr("clipmill.clipmodel.inference._PACKED_MOST", 1000)
    assert packed(for_inference(random_clip(VIT), images=4)) == 0
