"""Operations are counted as the reference's forward pass makes them."""

from __future__ import annotations

import pytest
import reference
import torch
from clipmill.clipmodel.config import VARIANTS
from clipmill.clipmodel.flops import GPU_PEAKS, Flops, peak
from torch.utils.flop_counter import FlopCounterMode


@pytest.mark.parametrize("name", ["RN50", "RN50x4", "ViT-B/32", "ViT-L/14@336px", "tiny"])
def test_an_image_takes_what_the_reference_takes(name: str) -> None:
    config = VARIANTS[name]
    size = config.vision.image_size
    with FlopCounterMode(display=False) as counter:
        reference.skeleton(config).eval().encode_image(torch.empty(1, 3, size, size, device="meta"))
    assert Flops.of(config).total(1, []) == pytest.approx(counter.get_total_flops(), rel=0.01)


@pytest.mark.parametrize("name", ["RN50", "ViT-L/14", "tiny"])
def test_a_caption_takes_what_the_reference_takes(name: str) -> None:
    config = VARIANTS[name]
    model = reference.skeleton(config).eval()
    with FlopCounterMode(display=False) as counter:
        model.encode_text(torch.zeros(1, config.text.context_length, dtype=torch.long, device="meta"))
    assert Flops.of(config).total(0, [77]) == pytest.approx(counter.get_total_flops(), rel=0.01)


def test_published_figures() -> None:
    """Of ViT-B/32, with 77 tokens: 4.4 and 3.0 giga-multiply-adds."""
    b32 = Flops.of(VARIANTS["ViT-B/32"])
    assert b32.total(1, []) == pytest.approx(8.8e9, rel=0.01)
    assert b32.total(0, [77]) == pytest.approx(5.96e9, rel=0.01)


def test_captions_count_at_their_own_length_up_to_the_context() -> None:
    b32 = Flops.of(VARIANTS["ViT-B/32"])
    assert b32.total(2, [77, 16]) == b32.total(2, []) + b32.total(0, [77]) + b32.total(0, [16])
    assert b32.total(0, [500]) == b32.total(0, [77])
    assert b32.total(0, []) == 0


@pytest.mark.parametrize(
    ("name", "flops"),
    [
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA L4", 121e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA A10G", 70e12),
        ("Tesla T4", 65e12),
        ("Some Other GPU", None),
    ],
)
def test_a_gpu_is_known_by_its_name(monkeypatch: pytest.MonkeyPatch, name: str, flops: float | None) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: name)
    assert peak("cuda", "bf16") == flops
    assert peak("cuda", "fp32") is None  # of that the table says nothing


def test_no_name_hides_another() -> None:
    names = list(GPU_PEAKS)
    assert not [(a, b) for i, a in enumerate(names) for b in names[i + 1 :] if a in b]


def test_a_cpu_is_measured() -> None:
    found = peak("cpu", "fp32")
    assert found is not None and 1e8 < found < 1e14
    assert peak("cpu", "bf16") is None
