"""Prices as they are written: one of a worker, or one for each kind of machine."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from clipmill.pipeline.errors import UserError
from clipmill.pipeline.job.prices import Prices

MACHINES = [("spot", "H200", "gpu"), ("kept", "H200", "gpu"), ("cpu",), ("head",)]


@pytest.mark.parametrize(
    ("given", "an_hour"),
    [
        (None, 0.0),
        (2.5, 7.5),
        (("2.5",), 7.5),
        (("h200=3", "cpu=0.1"), 6.1),
        (("spot=1", "H200=3", "head=0.2"), 4.2),  # the more particular name first
        (("gpu=4",), 8.0),
        ((), 0.0),
    ],
)
def test_an_hour_costs_what_its_machines_or_workers_do(given: float | Sequence[str] | None, an_hour: float) -> None:
    assert Prices.of(given).an_hour(MACHINES, 3) == pytest.approx(an_hour)


def test_what_has_no_price_is_named_but_for_the_head() -> None:
    assert Prices.of(("H200=3",)).missing(MACHINES) == ["cpu"]
    assert Prices.of(("spot=3",)).missing(MACHINES) == ["cpu", "kept"]
    assert Prices.of(2.0).missing(MACHINES) == Prices.of(None).missing(MACHINES) == []
    assert not Prices.of(None) and Prices.of(0.0) and Prices.of(("cpu=0",))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (-1.0, "--price-per-hour -1.0: must be a number, and not negative"),
        (float("nan"), "must be a number"),
        (("much",), "--price-per-hour much: must be a number"),
        (("H200=",), "--price-per-hour H200=: must be a number"),
        (("H200=inf",), "must be a number"),
        (("=3",), "--price-per-hour =3: names no kind"),
        (("H200=3", "h200=4"), "--price-per-hour h200=4: that kind has a price"),
        (("3", "cpu=1"), "--price-per-hour 3: name one price of a worker, or KIND=PRICE each time"),
    ],
)
def test_what_is_no_price_is_refused(given: float | Sequence[str], said: str) -> None:
    with pytest.raises(UserError) as caught:
        Prices.of(given)
    assert said in str(caught.value) and "\n" not in str(caught.value)
