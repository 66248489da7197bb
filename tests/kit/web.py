"""A small web on loopback: images under names that say what becomes of them."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from fakes import jpeg

LARGE, SMALL = jpeg(1, 800, 600), jpeg(2, 40, 30)


class _Server(ThreadingHTTPServer):
    request_queue_size = 256  # many ask at once

    def handle_error(self, *_: object) -> None:
        """Whoever asked has gone."""


class Web:
    """Images on loopback, by what they are called: some are missing, slow, broken or not to be had by machines."""

    def __init__(self, image: Callable[[str], bytes] = lambda kind: LARGE if kind == "large" else SMALL) -> None:
        """image: of a name's first word, up to the dash, or of the whole name without one."""
        self.asked: Counter[str] = Counter()
        self.agents: set[str] = set()
        self.mended = False
        self.slowness = 3.0  # seconds
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                kind = self.path.strip("/").partition("-")[0]
                web.asked[self.path] += 1
                web.agents.add(self.headers["User-Agent"])
                if kind == "missing" and not web.mended:
                    self.send_error(404)
                    return
                if kind == "slow":
                    time.sleep(web.slowness)
                self.send_response(200)
                if kind == "optout":
                    self.send_header("X-Robots-Tag", "noai")
                if kind == "reserved":
                    self.send_header("TDM-Reservation", "1")
                self.end_headers()
                self.wfile.write(b"no image" if kind == "broken" else image(kind))

            def log_message(self, *_: object) -> None: ...

        self.server = _Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
