"""What the page keeps of a search: embeddings are compared once, however often and by however many it is looked at."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from clipmill.jobs.web.matches import Recent
from clipmill.jobs.web.site import Site
from clipmill.jobs.web.view import Query, View
from clipmill.pipeline.searching import query
from clipmill.pipeline.searching.search import Space


def test_a_value_is_made_once_for_all_who_ask_at_the_same_time() -> None:
    recent: Recent[str, int] = Recent(2)
    made, together = [], threading.Barrier(4)

    def make() -> int:
        made.append(1)
        time.sleep(0.05)
        return 7

    def ask(_: int) -> int:
        together.wait()
        return recent.get("key", make)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(ask, range(4))) == [7] * 4
    assert made == [1]


def test_a_failure_is_not_kept_and_the_oldest_goes() -> None:
    recent: Recent[str, int] = Recent(2)
    with pytest.raises(ZeroDivisionError):
        recent.get("a", lambda: 1 // 0)
    assert recent.get("a", lambda: 1) == 1
    for key in "bc":
        recent.keep(key, 2)
    assert recent.get("a", lambda: 3) == 3  # it had gone


def test_a_query_finds_the_model_ready(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packing its weights for the CPU takes longer than a search."""
    monkeypatch.setattr(query, "encoder_of", None)
    assert site.search(View(Query(text="a star that nobody has asked for")), 0, 1)["hits"]


def test_pages_and_orders_of_a_search_compare_the_embeddings_once(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    scans: list[Any] = []
    nearest = Space.exactly_nearest
    monkeypatch.setattr(Space, "exactly_nearest", lambda *given: scans.append(given) or nearest(*given))
    star = Query(text="a star that nobody looked for")
    for start in (0, 20, 40):
        site.search(View(star), start, 20)
    site.search(View(star, order="similarity"), 0, 20)
    assert len(scans) == 1
    site.search(View(star, at_least=0.2), 0, 20)
    assert len(scans) == 2
