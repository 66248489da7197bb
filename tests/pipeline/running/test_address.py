"""An address at which nobody is is told at once."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from clipmill.pipeline.errors import InfrastructureError
from clipmill.pipeline.running.cluster import check_address, connected


@pytest.fixture
def listening() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def closed() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def test_where_somebody_listens_ray_may_ask(listening: int) -> None:
    check_address(f"127.0.0.1:{listening}")
    check_address(f"ray://127.0.0.1:{listening}")


def test_where_nobody_does_it_is_one_line(closed: int) -> None:
    for address in (f"127.0.0.1:{closed}", f"ray://127.0.0.1:{closed}", f"[::1]:{closed}", "127.0.0.1:99999"):
        with pytest.raises(InfrastructureError) as caught:
            check_address(address)
        assert str(caught.value).startswith(f"no Ray cluster answers at {address}: ") and "\n" not in str(caught.value)


def test_other_spellings_are_left_to_ray() -> None:
    for address in ("auto", "local", "anyscale://cluster", "head"):
        check_address(address)


def test_a_run_asks_before_ray_does(closed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """By whatever name the address comes."""
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.init", lambda *_, **__: pytest.fail("asked Ray"))
    for address, environment in ((f"127.0.0.1:{closed}", "127.0.0.1:1"), ("auto", f"127.0.0.1:{closed}")):
        monkeypatch.setenv("RAY_ADDRESS", environment)
        with pytest.raises(InfrastructureError, match=f"no Ray cluster answers at 127.0.0.1:{closed}"):
            connected(address).__enter__()
