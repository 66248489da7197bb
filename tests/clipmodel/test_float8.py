"""Products of 8-bit floats: the CPU computes what torch's own product is, and embeddings keep their direction."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from clipmill.clipmodel import float8
from clipmill.clipmodel.config import VARIANTS, CLIPConfig, Precision, TextConfig, VisionConfig
from clipmill.clipmodel.errors import ModelError
from clipmill.clipmodel.float8 import Float8Linear, check_float8, has_float8, quantised
from clipmill.clipmodel.flops import peak
from clipmill.clipmodel.fused import HalfLinear
from clipmill.clipmodel.inference import check_precision, compile_blocks, for_inference
from hypothesis import given, settings
from hypothesis import strategies as st
from random_models import captions, images, random_clip
from torch import Tensor
from torch.nn.functional import cosine_similarity

VIT = CLIPConfig(128, VisionConfig(64, 128, 5, 16), TextConfig(128, 2, 3, vocab_size=2048), "quick_gelu")
RESNET = CLIPConfig(128, VisionConfig(64, 32, (1, 1, 1, 1)), VIT.text, "quick_gelu")


@pytest.fixture(autouse=True)
def without_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@settings(deadline=None)
@given(st.integers(1, 9), st.integers(1, 40), st.integers(-30, 30), st.integers(0, 99))
def test_a_row_comes_back_but_for_three_bits(rows: int, width: int, power: int, seed: int) -> None:
    x = drawn(rows, width, seed=seed) * 2.0**power
    eights, scales = quantised(x)
    assert (eights.dtype, scales.dtype, scales.shape) == (torch.float8_e4m3fn, torch.float32, (rows, 1))
    back = eights.float() * scales
    # half a step of the mantissa, and of the smallest numbers half of the smallest one
    assert ((back - x).abs() <= x.abs() / 16 + scales * 2.0**-10).all()
    torch.testing.assert_close(back.abs().amax(1), x.abs().amax(1))


def test_rows_of_zeros_and_of_what_is_no_number_stay_so() -> None:
    eights, scales = quantised(torch.tensor([[0.0, 0.0], [1.0, float("nan")], [float("inf"), 1.0]]))
    back = eights.float() * scales
    assert back[0].tolist() == [0.0, 0.0]
    assert back[1].isnan().any() and back[2].isnan().any()  # the embedding is a failed row then


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [1, 5, 64])
def test_the_product_is_torchs_own(rows: int, bias: bool) -> None:
    layer = Float8Linear(drawn(48, 64), drawn(48) if bias else None, 1.702)
    x = drawn(rows, 64, seed=1).to(torch.bfloat16)
    eights, scales = quantised(x)
    theirs = torch._scaled_mm(
        eights, layer.weight.t(), scales, layer.scales.t(), bias=layer.bias, out_dtype=torch.bfloat16
    )
    ours = layer(x)
    assert ours.dtype == torch.bfloat16 and ours.shape == (rows, 48)
    torch.testing.assert_close(ours, theirs, rtol=2**-7, atol=1e-2)


def test_it_is_the_linear_layer_but_for_rounding() -> None:
    weight, bias, x = drawn(96, 128), drawn(96), drawn(2, 7, 128, seed=1)
    ours = Float8Linear(weight, bias, 0.5)(x).float()
    exact = x @ (0.5 * weight).T + bias
    assert (ours - exact).norm() < 0.05 * exact.norm()
    assert ours.shape == exact.shape


def test_the_image_towers_inner_blocks_alone_are_in_8_bits() -> None:
    copy = for_inference(random_clip(VIT), "fp8")
    found = {name for name, module in copy.named_modules() if isinstance(module, Float8Linear)}
    layers = ("attn.in_proj", "attn.out_proj", "mlp.0", "mlp.2")
    inner = [f"visual.transformer.resblocks.0.blocks.{number}" for number in (1, 2, 3)]
    assert found == {f"{block}.{layer}" for block in inner for layer in layers}
    half = {name for name, module in copy.named_modules() if isinstance(module, HalfLinear)}
    assert {name for name in half if name.startswith("visual")} == {
        "visual.conv1.linear",
        *(f"visual.transformer.resblocks.0.blocks.0.{layer}" for layer in layers),
    }


@pytest.mark.parametrize(("precision", "least"), [("bf16", 0.9995), ("pure_bf16", 0.999), ("fp8", 0.98)])
@pytest.mark.parametrize("variant", ["ViT-B/32", "small"])
def test_embeddings_keep_their_direction(precision: Precision, least: float, variant: str) -> None:
    model = random_clip(VIT if variant == "small" else VARIANTS[variant])
    pixels = images(model.config, 2)
    exact, ours = model.encode_image(pixels), for_inference(model, precision).encode_image(pixels)
    assert ours.dtype == torch.float32
    assert least < cosine_similarity(ours, exact).min() < 0.9999999


@pytest.mark.parametrize("precision", ["pure_bf16", "fp8"])
def test_compiled_blocks_say_the_same(precision: Precision) -> None:
    model, pixels, tokens = random_clip(VIT), images(VIT, 3), captions(VIT)
    plain, compiled = for_inference(model, precision), for_inference(model, precision)
    compile_blocks(compiled, "aot_eager")
    torch.testing.assert_close(compiled.encode_image(pixels), plain.encode_image(pixels), rtol=0.05, atol=0.05)
    for length in (9, VIT.text.context_length):
        text = plain.encode_text(tokens[:, :length])
        torch.testing.assert_close(compiled.encode_text(tokens[:, :length]), text, rtol=0.05, atol=0.05)


def test_captions_are_encoded_as_in_bfloat16() -> None:
    model = random_clip(VIT)
    tokens = captions(VIT)
    ours, half = for_inference(model, "fp8").encode_text(tokens), for_inference(model, "bf16").encode_text(tokens)
    assert torch.equal(ours, half)
    assert not torch.equal(half, for_inference(model, "pure_bf16").encode_text(tokens))


@pytest.mark.parametrize("precision", ["fp8", "pure_bf16"])
def test_a_resnet_has_nothing_of_that(precision: Precision) -> None:
    check_precision(precision, VIT)
    check_precision("bf16", RESNET)
    for refuse in (lambda: check_precision(precision, RESNET), lambda: for_inference(random_clip(RESNET), precision)):
        with pytest.raises(ModelError, match=f"--precision {precision} is for VisionTransformers"):
            refuse()


@pytest.mark.parametrize(
    ("gpu", "has"),
    [
        ("NVIDIA H200", True),
        ("H100", True),
        ("NVIDIA GH200 480GB", True),
        ("NVIDIA B200", True),
        ("NVIDIA A100-SXM4-80GB", False),
        ("NVIDIA L40S", False),
        ("Tesla T4", False),
        ("AMD Instinct MI300X", False),
        ("NVIDIA X9000", None),
    ],
)
def test_gpus_that_multiply_8_bit_floats_are_known_by_name(gpu: str, has: bool | None) -> None:
    assert has_float8(gpu) is has


def test_a_device_without_them_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match=r"needs an NVIDIA GPU of the Hopper generation or later .* on CPUs"):
        check_float8("cpu")
    monkeypatch.setattr(float8.torch.cuda, "get_device_name", lambda _: "NVIDIA A100")
    for capability, refused in (((8, 9), True), ((9, 0), False), ((10, 0), False)):
        monkeypatch.setattr(float8.torch.cuda, "get_device_capability", lambda _, capability=capability: capability)
        if refused:
            with pytest.raises(ModelError, match="use bf16 on the NVIDIA A100 here"):
                check_float8("cuda")
        else:
            check_float8("cuda")


def test_its_peak_is_twice_that_of_16_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA H200")
    assert peak("cuda", "fp8") == 2 * (peak("cuda", "pure_bf16") or 0.0) == 2 * 989e12
