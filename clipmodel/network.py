"""Whether a server is reached at all: told in seconds, where downloads themselves are patient."""

from __future__ import annotations

import socket
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

from .errors import one_line

WITHIN = 2.0  # seconds, for all tries together; a resolver of names may take ten by itself
_PAUSE = 0.5  # seconds between tries


def why_unreachable(url: str) -> str | None:
    """The reason why no connection to the URL's server is made, directly or through the proxy that the environment
    names; None where one is."""
    end = time.monotonic() + WITHIN
    while True:
        reason = _try(url, end - time.monotonic())
        if reason is None or time.monotonic() + _PAUSE > end:
            return reason
        time.sleep(_PAUSE)


def _try(url: str, seconds: float) -> str | None:
    answers: list[str | None] = []

    def connect() -> None:
        try:
            _connect(url, seconds)
            answers.append(None)
        except (OSError, ValueError) as error:
            answers.append(one_line(getattr(error, "reason", None) or error))

    thread = threading.Thread(target=connect, daemon=True)  # nothing else bounds the resolving of names
    thread.start()
    thread.join(seconds)
    return answers[0] if answers else f"no answer within {WITHIN:.0f} seconds"


def _connect(url: str, seconds: float) -> None:
    parts = urllib.parse.urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(host):
        request = urllib.request.Request(f"{parts.scheme}://{parts.netloc}/", method="HEAD")
        try:
            opener = urllib.request.build_opener()  # `urlopen` keeps the proxies of its first call for ever
            opener.open(request, timeout=seconds).close()
        except urllib.error.HTTPError as error:  # any answer will do
            error.close()
    else:
        port = parts.port or (80 if parts.scheme == "http" else 443)
        socket.create_connection((host, port), timeout=seconds).close()
