"""The bill, and how long a run may go on: with a clock of the test's."""

from __future__ import annotations

import math
from typing import Any

import pytest
from clipmill.pipeline.job.prices import Names, Prices
from clipmill.pipeline.running.bill import Bill
from clipmill.pipeline.running.until import Answer, Limited, WhenAsked

SPOT, CPU = ("spot", "H200", "gpu"), ("cpu",)
PRICES = Prices.of(("H200=3600", "cpu=360"))  # 1 and 0.1 a second


class Run:
    """Ten seconds after its beginning, on one machine."""

    def __init__(self, **limits: Any) -> None:
        self.now, self.machines, self.asked = 10.0, [SPOT], False
        bill = Bill(limits.pop("prices", PRICES), began=0.0)
        self.until = Limited(lambda: self.asked, bill, machines=lambda: self.machines, clock=lambda: self.now, **limits)

    def at(self, now: float, usual: float | None = None, workers: int = 1) -> Answer:
        self.now = now
        return self.until.ask(workers, usual)


def test_a_bill_counts_from_the_beginning_and_follows_the_machines() -> None:
    bill = Bill(PRICES, began=0.0)
    assert bill.total(5.0) == 0.0 and bill.lasts(1.0, 5.0) == math.inf
    bill.see(10.0, [SPOT], 1)
    assert bill.total(10.0) == pytest.approx(10.0) and bill.total(12.0) == pytest.approx(12.0)
    bill.see(20.0, [SPOT, SPOT, CPU], 3)
    assert bill.total(30.0) == pytest.approx(20.0 + 21.0)
    assert bill.lasts(62.0, 30.0) == pytest.approx(10.0) and bill.lasts(40.0, 30.0) == 0.0
    bill.see(30.0, [], 0)
    assert bill.total(1e6) == pytest.approx(41.0) and bill.lasts(42.0, 1e6) == math.inf


def test_a_worker_s_price_follows_the_workers() -> None:
    bill = Bill(Prices.of(3600.0), began=0.0)
    bill.see(10.0, [SPOT], 2)
    bill.see(20.0, [SPOT], 1)
    assert bill.total(30.0) == pytest.approx(10 * 2 + 10 * 2 + 10)


def test_without_limits_a_run_goes_on_until_it_is_asked() -> None:
    run = Run(prices=Prices())
    assert run.at(1e9, usual=60.0) == Answer()
    run.asked = True
    assert run.at(1e9) == Answer(begin=False) == WhenAsked(lambda: True).ask(1, None)
    assert run.until.reached == ""


def test_what_cannot_end_by_the_deadline_is_not_begun_and_then_what_is_in_hand_is_let_go() -> None:
    run = Run(deadline=100.0)
    assert run.at(60.0, usual=30.0) == Answer()
    assert run.at(71.0, usual=30.0) == Answer(begin=False, why="--deadline")
    assert run.at(99.9, usual=30.0).go_on
    assert run.at(100.0, usual=30.0) == Answer(begin=False, go_on=False, why="--deadline")
    assert run.until.reached == "--deadline"


def test_where_no_shard_is_done_yet_it_is_the_deadline_alone() -> None:
    run = Run(deadline=100.0)
    assert run.at(99.0) == Answer()
    assert not run.at(100.0).go_on


def test_a_budget_lasts_as_long_as_its_machines_let_it() -> None:
    run = Run(budget=100.0)
    assert run.at(40.0, usual=10.0) == Answer()
    run.machines = [SPOT] * 4
    assert run.at(60.0, usual=10.0) == Answer(begin=False, why="--budget")  # 60 spent, 4 a second from now on
    run.machines = [SPOT]
    assert run.at(69.0, usual=10.0).go_on
    assert run.at(71.0, usual=10.0) == Answer(begin=False, go_on=False, why="--budget")
    assert run.until.bill.total(71.0) == pytest.approx(104.0)


def test_the_nearer_limit_counts() -> None:
    assert Run(deadline=50.0, budget=100.0).at(45.0, usual=10.0).why == "--deadline"
    assert Run(deadline=500.0, budget=100.0).at(95.0, usual=10.0).why == "--budget"


def test_machines_are_looked_at_now_and_then_and_not_at_all_without_prices() -> None:
    looks: list[float] = []

    def machines() -> list[Names]:
        looks.append(run.now)
        return [SPOT]

    for prices, most in ((PRICES, 7), (Prices(), 0)):
        run = Run(prices=prices, deadline=1e9)
        run.until.machines = machines
        looks.clear()
        for tenth in range(1000):
            run.at(tenth / 10)
        assert len(looks) == most


def test_a_run_that_was_asked_to_stop_names_no_limit() -> None:
    run = Run(deadline=100.0)
    run.asked = True
    assert run.at(99.0, usual=5.0) == Answer(begin=False) and run.until.reached == ""


def test_kinds_without_a_price_are_named() -> None:
    run = Run()
    run.machines = [SPOT, ("A100", "gpu"), ("head",)]
    assert run.until.unpriced() == ["A100"]
