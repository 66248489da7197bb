"""Clients of a store that throttles them get nearly all that it allows, and none asks far more than that."""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass, field

import pytest
from clipmill.pipeline.storage import pace as module
from clipmill.pipeline.storage.pace import Pace, Share, pace_of, settle

IN_FLIGHT, LATENCY, PAUSE = (
    3,
    0.02,
    0.5,
)  # requests of a client; seconds until an answer, and until another try at most


@dataclass
class Store:
    """Allows so many requests a second, and refuses a share of them at random."""

    allowed: float
    refused: float = 0.0
    until: float = field(default=0.0)

    def lets_through(self, now: float) -> bool:
        if self.until > now or random.random() < self.refused:
            return False
        self.until = max(self.until, now - 0.1) + 1 / self.allowed
        return True


@dataclass
class Second:
    let_through: int = 0
    throttled: int = 0


def simulate(paces: list[Pace], store: Store, seconds: int) -> tuple[list[Second], list[int]]:
    """By second, and what each client got through."""
    random.seed(7)
    told, through = [Second() for _ in range(seconds)], [0] * len(paces)
    events = [(random.uniform(0, 0.01), number, "ask", number // IN_FLIGHT) for number in range(IN_FLIGHT * len(paces))]
    heapq.heapify(events)
    number = len(events)
    while events and events[0][0] < seconds:
        now, _, what, client = heapq.heappop(events)
        number += 1
        if what == "ask":
            following = (now + paces[client].wait(now), "send")
        elif what == "send":
            following = (now + LATENCY, "through" if store.lets_through(now) else "throttled")
        else:
            paces[client].answered(now, what == "throttled")
            told[int(now)].throttled += what == "throttled"
            told[int(now)].let_through += what == "through"
            through[client] += what == "through"
            following = (now + (random.uniform(0, PAUSE) if what == "throttled" else 0), "ask")
        heapq.heappush(events, (following[0], number, following[1], client))
    return told, through


def clients(count: int, limit: float | None = None) -> list[Pace]:
    random.seed(count)
    return [Pace(Share(count, limit), 0.0) for _ in range(count)]


@pytest.mark.parametrize(("count", "allowed", "useless"), [(64, 500, 0.3), (8, 100, 0.4), (300, 500, 0.4)])
def test_all_that_is_allowed_is_used(count: int, allowed: float, useless: float) -> None:
    told, through = simulate(clients(count), Store(allowed), 40)
    later = told[20:]
    assert sum(second.let_through for second in later) / len(later) >= 0.97 * allowed
    assert sum(second.throttled for second in later) <= useless * sum(s.throttled + s.let_through for s in later)
    assert sorted(through)[count // 10] > 0.15 * allowed / count * 40  # nobody starves


def test_nobody_begins_with_more_than_a_store_can_take() -> None:
    """64 clients with three requests in flight could ask 9,600 times a second."""
    told, _ = simulate(clients(64), Store(500), 4)
    for second in told:
        assert second.let_through + second.throttled <= 1100
        assert second.let_through >= 480


def test_the_start_is_spread_over_the_first_second() -> None:
    firsts = sorted(pace.wait(0.0) for pace in clients(1000))
    for tenth in range(10):
        assert 60 <= sum(tenth / 10 <= first < (tenth + 1) / 10 for first in firsts) <= 150


def test_a_client_alone_is_not_slowed_down() -> None:
    told, _ = simulate(clients(1), Store(1e9), 5)
    assert told[4].let_through >= 0.95 * IN_FLIGHT / LATENCY


def test_a_store_that_refuses_at_random_slows_hardly_down() -> None:
    told, _ = simulate(clients(1), Store(1e9, refused=0.2), 60)
    unpaced = IN_FLIGHT / (LATENCY + 0.25 * (LATENCY + PAUSE / 2))
    assert sum(second.let_through for second in told[30:]) / 30 >= 0.6 * unpaced


def test_a_stated_limit_is_kept_by_all_together() -> None:
    told, _ = simulate(clients(20, limit=50), Store(1e9), 30)
    assert all(second.throttled == 0 for second in told)
    assert all(second.let_through <= 75 for second in told)  # a tenth of a second's worth may go at once, or one
    assert 47 <= sum(second.let_through for second in told[10:]) / 20 <= 51


def test_the_pace_is_found_again_when_the_store_allows_more() -> None:
    paces, store = clients(16), Store(20)
    simulate(paces, store, 30)
    slow = sum(pace.rate for pace in paces)
    for pace in paces:  # the simulation's clock begins anew
        pace._since = pace._next = 0.0
    store.allowed, store.until = 1000, 0.0
    told, _ = simulate(paces, store, 40)
    assert slow < 100 and told[-1].let_through >= 900


def test_a_store_that_lets_nothing_through_for_long_is_not_busy_but_ill() -> None:
    pace = Pace(Share(), 0.0)
    assert not pace.lets_through(0.0)
    pace.answered(1.0, throttled=False)
    pace.answered(2.0, throttled=True)
    assert pace.lets_through(100.0)
    assert not pace.lets_through(1.0 + module._PATIENCE)


def test_each_bucket_has_a_pace_of_its_own() -> None:
    assert pace_of("host/a") is pace_of("host/a") is not pace_of("host/b")
    before = pace_of("host/a")
    settle(Share(10))
    try:
        fresh = pace_of("host/a")
        assert fresh is not before and fresh.rate == pytest.approx(100)
        settle(Share(10))
        assert pace_of("host/a") is fresh, "what was learned is kept from task to task"
    finally:
        settle(Share())
