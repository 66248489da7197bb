"""What a block computes for one place is what it computes for all of them."""

from __future__ import annotations

import pytest
import torch
from clipmill.clipmodel.transformer import ResidualAttentionBlock, Transformer, rows_at
from random_models import randomize
from torch import Tensor

CAUSAL = pytest.mark.parametrize("causal", [False, True], ids=["all", "causal"])


@pytest.fixture
def block() -> ResidualAttentionBlock:
    made = ResidualAttentionBlock(64, 4, 256, "quick_gelu")
    randomize(made)
    return made


@pytest.fixture
def x() -> Tensor:
    return torch.randn((5, 9, 64), generator=torch.Generator().manual_seed(1))


@CAUSAL
def test_a_block_read_at_one_place_says_what_the_whole_block_says_there(
    block: ResidualAttentionBlock, x: Tensor, causal: bool
) -> None:
    places = torch.tensor([0, 8, 3, 3, 1])
    whole = rows_at(block(x, causal), places)
    assert whole.std() > 0.5
    torch.testing.assert_close(block(x, causal, places), whole, atol=1e-5, rtol=0)


@CAUSAL
def test_gradients_are_the_whole_blocks(block: ResidualAttentionBlock, x: Tensor, causal: bool) -> None:
    places = torch.tensor([4, 8, 0, 2, 7])
    gradients = []
    for output in (rows_at(block(x, causal), places), block(x, causal, places)):
        block.zero_grad()
        output.square().sum().backward()
        gradients.append({name: parameter.grad for name, parameter in block.named_parameters()})
    whole, one = gradients
    for name, gradient in whole.items():
        assert gradient is not None
        torch.testing.assert_close(one[name], gradient, atol=1e-4 * float(gradient.abs().max()) + 1e-4, rtol=0)


def test_what_comes_after_the_place_is_not_seen_where_attention_is_causal(x: Tensor) -> None:
    stack = Transformer(64, 2, 4, 256, "gelu", causal=True)
    randomize(stack)
    places = torch.tensor([4, 0, 3, 7, 1])
    later = torch.arange(9)[None, :, None] > places[:, None, None]
    assert torch.equal(stack(x.masked_fill(later, 9.0), places), stack(x, places))
    assert not torch.equal(stack(x + 1, places), stack(x, places))
