"""Without a network, a download fails within three seconds, in one line that names the model and the remedy."""

from __future__ import annotations

import http.server
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clipmill.clipmodel import network
from clipmill.clipmodel.network import why_unreachable
from weights_kit import error_of

OPENAI, HUB = "ViT-B/32", "ViT-B-32=laion2b_s34b_b79k"


@pytest.fixture
def silent() -> Iterator[str]:
    """A port that takes no connection and refuses none: its queue is full."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        waiting = []
        for _ in range(4):
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(listening.getsockname())
            waiting.append(one)
        yield f"127.0.0.1:{listening.getsockname()[1]}"
        for one in waiting:
            one.close()


@pytest.fixture
def refusing_proxy() -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_CONNECT(self) -> None:
            self.send_error(403, "Forbidden")

        def log_message(self, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_a_server_that_listens_is_reached_whatever_it_answers() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(5)
        assert why_unreachable(f"http://127.0.0.1:{listening.getsockname()[1]}/models") is None


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "https://name.invalid/x", "https://", "http://[::1]:9/", "x"])
def test_what_is_not_reached_has_a_reason_in_time(url: str) -> None:
    start = time.perf_counter()
    reason = why_unreachable(url)
    assert reason and "\n" not in reason
    assert time.perf_counter() - start < 2.8


def test_silence_is_not_waited_for(silent: str) -> None:
    start = time.perf_counter()
    assert why_unreachable(f"http://{silent}/") in ("no answer within 2 seconds", "timed out")
    assert time.perf_counter() - start < 2.8


def test_a_slow_resolver_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def late(*args: Any, **kwargs: Any) -> socket.socket:
        time.sleep(3)
        raise OSError("too late")

    monkeypatch.setattr(network.socket, "create_connection", late)
    start = time.perf_counter()
    assert why_unreachable("https://example.org/") == "no answer within 2 seconds"
    assert time.perf_counter() - start < 2.8


def test_a_connection_that_fails_once_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[int] = []

    def flaky(address: Any, timeout: float) -> socket.socket:
        tries.append(1)
        if len(tries) == 1:
            raise OSError("temporary failure in name resolution")
        return socket.socket()

    monkeypatch.setattr(network.socket, "create_connection", flaky)
    assert why_unreachable("https://example.org/") is None
    assert len(tries) == 2


def test_a_proxy_that_refuses_is_no_network(refusing_proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OSError):
        urllib.request.urlopen("http://127.0.0.1:9/", timeout=1)  # which would keep the proxies of before
    monkeypatch.setenv("https_proxy", refusing_proxy)
    assert "403" in (why_unreachable("https://example.org/") or "")
    monkeypatch.setenv("no_proxy", "localhost")
    assert why_unreachable("https://localhost:9/") == "[Errno 111] Connection refused"


@pytest.mark.parametrize(("spec", "name"), [(OPENAI, "ViT-B/32"), (HUB, "ViT-B-32")])
def test_a_download_without_a_network_is_one_line_within_three_seconds(
    spec: str, name: str, refusing_proxy: str, tmp_path: Path
) -> None:
    script = f"""
import time
from clipmill.clipmodel.errors import ModelError
from clipmill.clipmodel.weights import load
import huggingface_hub
start = time.perf_counter()
try: load({spec!r})
except ModelError as error: print(error)
print(time.perf_counter() - start)
"""
    environment = {key: value for key, value in os.environ.items() if "proxy" not in key.lower()}
    environment |= {"CLIPMILL_CACHE": str(tmp_path), "HF_HOME": str(tmp_path), "https_proxy": refusing_proxy}
    environment["HF_HUB_OFFLINE"] = "0"
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    message, seconds = done.stdout.splitlines()
    assert message.startswith(f"{name}: cannot download ") and "the network is not reached (" in message
    assert message.endswith(f"--model {name}=PATH")
    assert float(seconds) < 3
    assert done.stderr == ""


def test_the_remedy_works_for_the_model_that_the_message_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CLIPMILL_CACHE", str(tmp_path))
    monkeypatch.setenv("CLIPMILL_OPENAI_URL", "http://127.0.0.1:9/models")
    message = error_of("RN50")
    assert message.startswith("RN50: cannot download http://127.0.0.1:9/models/")
    assert f"put the file at {tmp_path / 'RN50.pt'}, or give its path: --model RN50=PATH" in message
