"""Weights are fetched once a run, by the driver; every other machine has a copy of its own, made once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import sending


class _Counting(SimpleHTTPRequestHandler):
    requests: Counter[str]

    def do_GET(self) -> None:
        self.requests[self.path] += 1
        super().do_GET()

    def log_message(self, *_: object) -> None: ...


@contextmanager
def hub(folder: Path) -> Iterator[tuple[str, Counter[str]]]:
    """Its address, and how often each file was fetched from it."""
    counting = type("Handler", (_Counting,), {"requests": Counter()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(counting, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", counting.requests
    finally:
        server.shutdown()
        server.server_close()


def test_a_hub_is_asked_once_however_many_machines_there_are(sharp_weights: Path, tmp_path: Path) -> None:
    told = tmp_path / "told.json"
    with hub(sharp_weights.parent) as (address, fetched):
        spec = f"tiny={address}/{sharp_weights.name}"
        command = [sys.executable, sending.__file__, spec, str(tmp_path / "nodes"), str(told)]
        environment = {**os.environ, "CLIPMILL_CACHE": str(tmp_path / "driver")}
        subprocess.run(command, env=environment, check=True, timeout=500)
    found = json.loads(told.read_text())
    assert fetched == {f"/{sharp_weights.name}": 1}
    assert found["alone"], "one machine needs no copies"
    assert {worker["sha256"] for worker in found["workers"]} == {found["expected"]}
    copies = {(worker["path"], worker["made"]) for worker in found["workers"]}
    assert len(found["workers"]) == 2 * sending.NODES and len(copies) == sending.NODES
    assert not list((tmp_path / "nodes").rglob("*.part"))
