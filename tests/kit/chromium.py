"""A real browser for tests of pages: headless Chromium."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

EXECUTABLE = shutil.which("chromium") or shutil.which("google-chrome") or "chromium"
QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-default-apps",
)  # fmt: skip
_OWN = re.compile(r"\.(googleapis|google|gvt1)\.com[:/]")  # the browser's own updates, whatever the page


def loaded(page: Path, profile: Path, *options: str) -> str:
    """What the page has become once its scripts have run."""
    command = [EXECUTABLE, *QUIET, f"--user-data-dir={profile}", *options, "--dump-dom", page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


@dataclass
class Nowhere:
    """A proxy that leads nowhere, and remembers what was asked of it."""

    port: int
    asked: list[str] = field(default_factory=list)


@contextmanager
def nowhere() -> Iterator[Nowhere]:
    class Refuse(BaseHTTPRequestHandler):
        def handle_one_request(self) -> None:
            line = self.rfile.readline().decode("latin-1").strip()
            if not _OWN.search(line):
                told.asked.append(line)
            self.close_connection = True

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Refuse)
    told = Nowhere(server.server_port)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield told
    finally:
        server.shutdown()
        server.server_close()
