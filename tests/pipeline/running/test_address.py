"""An address at which nobody is is told at once."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from clipmill.pipeline.errors import InfrastructureError, UserError
from clipmill.pipeline.running import cluster_address
from clipmill.pipeline.running.cluster import connected
from clipmill.pipeline.running.cluster_address import wants_token


@pytest.fixture
def listening() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def closed() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def test_where_somebody_listens_who_is_slow_ray_may_ask(listening: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_address, "_PATIENCE", 0.5)
    assert not wants_token(f"127.0.0.1:{listening}")
    assert not wants_token(f"ray://127.0.0.1:{listening}")


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_what_listens_there_and_is_not_ray_is_told_at_once(scheme: str) -> None:
    class Page(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"{scheme}127.0.0.1:{server.server_port}"
        with pytest.raises(InfrastructureError, match=f"no Ray cluster answers at {address}, but something else does"):
            wants_token(address)
        server.shutdown()


def test_where_nobody_does_it_is_one_line(closed: int) -> None:
    for address in (f"127.0.0.1:{closed}", f"ray://127.0.0.1:{closed}", f"[::1]:{closed}", "127.0.0.1:99999"):
        with pytest.raises(InfrastructureError) as caught:
            wants_token(address)
        assert str(caught.value).startswith(f"no Ray cluster answers at {address}: ") and "\n" not in str(caught.value)


def test_other_spellings_are_left_to_ray() -> None:
    for address in ("auto", "local", "anyscale://cluster", "head"):
        assert not wants_token(address)


def test_a_run_asks_before_ray_does(closed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """By whatever name the address comes."""
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.init", lambda *_, **__: pytest.fail("asked Ray"))
    for address, environment in ((f"127.0.0.1:{closed}", "127.0.0.1:1"), ("auto", f"127.0.0.1:{closed}")):
        monkeypatch.setenv("RAY_ADDRESS", environment)
        with pytest.raises(InfrastructureError, match=f"no Ray cluster answers at 127.0.0.1:{closed}"):
            connected(address).__enter__()


@pytest.mark.parametrize("reason", ["Starting Ray client server failed. See a log.", "psutil.ZombieProcess: PID 7"])
@pytest.mark.parametrize(("failures", "joins"), [(1, True), (2, False)])
def test_a_head_that_fails_to_start_a_server_for_its_client_is_asked_once_more(
    failures: int, joins: bool, reason: str, listening: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def init(address: str, **_: object) -> None:
        asked.append(address)
        if len(asked) <= failures:
            raise ConnectionError(f"Initialization failure from server:\n{reason}")

    address = f"127.0.0.1:{listening}"
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.init", init)
    monkeypatch.setattr("ray.shutdown", lambda: None)
    monkeypatch.setattr("clipmill.pipeline.running.cluster.wants_token", lambda _: False)
    told = f"no Ray cluster answers at {address}: Initialization failure.*GRPC_ENABLE_FORK_SUPPORT=0"
    refused = pytest.raises(InfrastructureError, match=told)
    with nullcontext() if joins else refused, connected(address):
        pass
    assert asked == [address] * 2


@pytest.mark.parametrize(("failures", "starts"), [(1, True), (2, False)])
def test_a_cluster_that_a_busy_machine_starts_too_slowly_is_started_once_more(
    failures: int, starts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[str] = []

    def init(address: str, **_: object) -> None:
        tries.append(address)
        if len(tries) <= failures:
            raise Exception("The current node timed out during startup. This could happen because …")

    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.init", init)
    monkeypatch.setattr("ray.shutdown", lambda: None)
    refused = pytest.raises(InfrastructureError, match="on this machine did not start: The current node timed out")
    with nullcontext() if starts else refused, connected("local"):
        pass
    assert tries == ["local"] * 2


@pytest.mark.parametrize("variable", ["TMPDIR", "RAY_TMPDIR"])
def test_a_folder_too_long_for_rays_sockets_is_told_before_ray_is_started(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / ("a" * 60)
    folder.mkdir()
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv(variable, str(folder))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.init", lambda *_, **__: pytest.fail("asked Ray"))
    with pytest.raises(UserError, match=rf"{folder}: the path .* too long for Ray's sockets: set RAY_TMPDIR"):
        connected("local").__enter__()
