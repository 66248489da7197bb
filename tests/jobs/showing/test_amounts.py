"""Numbers as people say them."""

from __future__ import annotations

import pytest
from clipmill.jobs.showing.amounts import counted, every, size


def test_one_is_singular() -> None:
    assert [counted(n, "shard") for n in (0, 1, 2000)] == ["0 shards", "1 shard", "2,000 shards"]
    assert [every(n, "part") for n in (1, 2)] == ["the only part is", "all 2 parts are"]


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (15_432, "15.4 kB"),
        (2_000_000, "2.0 MB"),
        (3_456_000_000, "3.5 GB"),
        (12_000_000_000_000, "12,000.0 GB"),
    ],
)
def test_bytes_have_a_unit_that_fits(number: int, said: str) -> None:
    assert size(number) == said
