"""A real browser for tests of pages: headless Chromium. Tests that use it are skipped where it is missing."""

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

from needs import CHROMIUM

SWITCHES = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-default-apps",
)  # fmt: skip
_OWN = re.compile(r"\.(googleapis|google|gvt1)\.com[:/]")  # the browser's own updates, whatever the page


def executable() -> str:
    """The browser's path; where there is none, the test that asks is skipped."""
    CHROMIUM.require()
    return shutil.which("chromium") or shutil.which("google-chrome") or ""


def loaded(page: Path, profile: Path, *options: str) -> str:
    """The page's HTML once its scripts have run."""
    command = [executable(), *SWITCHES, f"--user-data-dir={profile}", *options, "--dump-dom", page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout


@dataclass
class Nowhere:
    """A proxy that answers nothing and keeps the request lines that it gets."""

    port: int
    requests: list[str] = field(default_factory=list)


@contextmanager
def nowhere() -> Iterator[Nowhere]:
    class Refuse(BaseHTTPRequestHandler):
        def handle_one_request(self) -> None:
            line = self.rfile.readline().decode("latin-1").strip()
            if not _OWN.search(line):
                proxy.requests.append(line)
            self.close_connection = True

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Refuse)
    proxy = Nowhere(server.server_port)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
