"""Whichever library computes."""

from __future__ import annotations

import pytest
import torch
from clipmill.clipmodel.fused import has_mkldnn
from clipmill.clipmodel.products import products

SHAPES = [(1, 1, 1), (300, 7, 512), (2048, 2049, 64), (129, 256, 16), (700, 200, 33), (5, 0, 8), (0, 5, 8), (2, 3, 0)]


@pytest.fixture(params=["onednn", "torch"], autouse=True)
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "onednn" and not has_mkldnn(torch.float32):
        pytest.skip("this torch has no oneDNN")
    monkeypatch.setattr("clipmill.clipmodel.products.prefers_onednn", lambda: request.param == "onednn")


@pytest.mark.parametrize(("n", "m", "dim"), SHAPES)
def test_each_vector_meets_each(n: int, m: int, dim: int) -> None:
    random = torch.Generator().manual_seed(0)
    left, right = (torch.randn(count, dim, generator=random) for count in (n, m))
    result = products(left, right)
    assert result.dtype == torch.float32 and result.shape == (n, m)
    torch.testing.assert_close(result.double(), left.double() @ right.double().T, atol=1e-4, rtol=1e-5)


def test_views_are_taken_as_they_lie() -> None:
    random = torch.Generator().manual_seed(1)
    left, right = torch.randn(64, 20, generator=random).T, torch.randn(30, 128, generator=random)[::2, ::2]
    torch.testing.assert_close(products(left, right), left @ right.T)


def test_onednn_sees_few_shapes_for_each_of_which_it_keeps_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes: set[tuple[int, int]] = set()

    def recorded(left: torch.Tensor, right: torch.Tensor, bias: None) -> torch.Tensor:
        shapes.add((len(left), len(right)))
        return left @ right.T

    monkeypatch.setattr("clipmill.clipmodel.products.pointwise", recorded)
    monkeypatch.setattr("clipmill.clipmodel.products.prefers_onednn", lambda: True)
    for n in range(1, 1025, 7):
        assert products(torch.ones(n, 2), torch.ones(1025 - n, 2)).shape == (n, 1025 - n)
    assert 0 < len(shapes) <= 16


def test_other_types_are_torchs() -> None:
    half = torch.eye(4, dtype=torch.float16)
    assert torch.equal(products(half, half), half)
