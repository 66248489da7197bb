"""A proxy between clients and an S3 server that does what networks and busy stores do, and counts what passes.

Requests must have a Content-Length or no body, and path-style addresses (s3fs does both). What goes wrong is drawn from
a seed in the order in which requests arrive: for one client at a time, the same every time.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import math
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

from s3 import Account

_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "expect"}
_SLOW_DOWN = b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>SlowDown</Code><Message>Slow down</Message></Error>'


@dataclass(frozen=True)
class Faults:
    """What goes wrong. Shares are of all requests."""

    slow_down: float = 0.0  # answered 503 and never passed on
    allowed: float = math.inf  # requests a second; what is more is answered in the same way
    cut: float = 0.0  # passed on; the connection breaks in the middle of the answer
    lose_put: int = 0  # of every Nth PUT the answer is lost, after it took effect
    latency: float = 0.0  # seconds before a request is passed on
    ignore_conditions: Account | None = None  # If-None-Match is stripped; the request is signed again by this account
    seed: int = 0
    full: tuple[int, str] | None = None  # parts are not stored: the answer's status, and the store's code


@dataclass(frozen=True)
class Request:
    method: str
    path: str  # decoded, without the query
    query: str
    status: int  # of the server's answer, or 503 where it was not asked
    answered: bool  # whether the answer got through
    size: int = 0  # bytes of the answer's body
    at: float = field(default_factory=time.monotonic, compare=False)


@dataclass
class Proxy:
    """Running. `faults` may be changed at any time; new ones begin with their seed."""

    endpoint: str
    faults: Faults
    seen: list[Request] = field(default_factory=list)

    def count(self, method: str | None = None, path: str = "/", status: int | None = None) -> int:
        """Requests so far, by what they have in common. `path` is a prefix: /bucket/key."""
        return sum(
            method in (None, each.method) and each.path.startswith(path) and status in (None, each.status)
            for each in self.seen
        )

    def bytes(self) -> int:
        """Of all answers' bodies."""
        return sum(each.size for each in self.seen)

    def by_method(self) -> Counter[str]:
        return Counter(each.method for each in self.seen)


@contextmanager
def proxy(target: str, faults: Faults | None = None) -> Iterator[Proxy]:
    """Forwards to the server at `target`, an http:// address."""
    where = urlsplit(target)
    server = _Server(("127.0.0.1", 0), _Handler)
    told = Proxy(f"http://127.0.0.1:{server.server_port}", faults or Faults())
    server.begin(told, where.hostname or "127.0.0.1", where.port or 80)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield told
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass(frozen=True)
class _Fate:
    slow_down: bool
    cut: bool
    lost: bool


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def begin(self, told: Proxy, host: str, port: int) -> None:
        self.told, self.target = told, (host, port)
        self._lock = threading.Lock()
        self._drawn: Faults | None = None  # from

    def fate(self, method: str) -> _Fate:
        faults = self.told.faults
        with self._lock:
            if faults is not self._drawn:
                self._drawn, self._random, self._puts = faults, random.Random(faults.seed), 0
                self._next = 0.0  # when the next request is allowed
            drawn = self._random.random()
            if drawn < faults.slow_down or not self._allows(time.monotonic(), faults.allowed):
                return _Fate(True, False, False)
            self._puts += method == "PUT"
            lost = method == "PUT" and faults.lose_put > 0 and self._puts % faults.lose_put == 0
            return _Fate(False, drawn < faults.slow_down + faults.cut, lost)

    def _allows(self, now: float, rate: float) -> bool:
        """A token bucket, which holds what a tenth of a second allows, or one request."""
        if self._next > now:
            return False
        self._next = max(self._next, now - 0.1) + 1 / rate
        return True

    def saw(self, request: Request) -> None:
        with self._lock:
            self.told.seen.append(request)

    def handle_error(self, *_: object) -> None:
        """Clients that are killed leave broken connections; that is what tests do here."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        where = urlsplit(self.path)
        faults, fate = self.server.told.faults, self.server.fate(self.command)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if len(body) < int(self.headers.get("Content-Length", 0)):
            return self._hang_up()  # the client is gone
        if faults.latency:
            time.sleep(faults.latency)
        status, headers, answer = 503, {"Content-Type": "application/xml"}, _SLOW_DOWN
        if faults.full and self.command == "PUT" and "/data/" in where.path:
            status, answer = faults.full[0], _SLOW_DOWN.replace(b"SlowDown", faults.full[1].encode())
        elif not fate.slow_down:
            status, headers, answer = self._forward(body, faults)
        broken = fate.cut or fate.lost
        self.server.saw(Request(self.command, unquote(where.path), where.query, status, not broken, len(answer)))
        if fate.lost:
            return self._hang_up()
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(answer)))
        if fate.cut and (self.command == "HEAD" or not answer):
            with suppress(OSError):
                self.wfile.write(b"".join(self._headers_buffer)[:20])  # not even the status line is whole
            return self._hang_up()
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer[: len(answer) // 2] if fate.cut else answer)
        return self._hang_up() if fate.cut else None

    do_PUT = do_POST = do_HEAD = do_DELETE = do_GET

    def _forward(self, body: bytes, faults: Faults) -> tuple[int, dict[str, str], bytes]:
        """The server's status, headers and body. Each time by a new connection, so that none is stale."""
        headers = [(name, value) for name, value in self.headers.items() if name.lower() not in _HOP_BY_HOP]
        if faults.ignore_conditions:
            headers = _without_conditions(self.command, self.path, headers, faults.ignore_conditions)
        upstream = http.client.HTTPConnection(*self.server.target, timeout=60)
        try:
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in headers:  # Host as the client knows it: it is part of the signature
                upstream.putheader(name, value)
            if "Content-Length" in self.headers:
                upstream.putheader("Content-Length", str(len(body)))
            upstream.endheaders(body)
            response = upstream.getresponse()
            answer = response.read()
            kept = {name: value for name, value in response.getheaders() if name.lower() not in _HOP_BY_HOP}
            if self.command == "HEAD" and (length := response.getheader("Content-Length")):
                kept["Content-Length"] = length
            return response.status, kept, answer
        finally:
            upstream.close()

    def _hang_up(self) -> None:
        """By a reset, as when a load balancer goes away."""
        self.close_connection = True
        with suppress(OSError):
            self.wfile.flush()
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    def log_message(self, *_: object) -> None:
        pass


def _without_conditions(
    method: str, target: str, headers: list[tuple[str, str]], account: Account
) -> list[tuple[str, str]]:
    """The request as a client would have sent it that never heard of `If-None-Match`: the header is part of the
    signature (AWS Signature Version 4), so that is made anew."""
    given = {name.lower(): value for name, value in headers}
    if given.pop("if-none-match", None) is None:
        return headers
    authorization = given.pop("authorization")
    fields = dict(part.strip().split("=", 1) for part in authorization.partition(" ")[2].split(","))
    _, _, scope = fields["Credential"].partition("/")
    signed = [name for name in fields["SignedHeaders"].split(";") if name != "if-none-match"]
    where = urlsplit(target)
    canonical = [
        method,
        where.path,
        "&".join(sorted(part if "=" in part else f"{part}=" for part in where.query.split("&") if part)),
        *(f"{name}:{' '.join(given[name].split())}" for name in signed),
        "",
        ";".join(signed),
        given["x-amz-content-sha256"],
    ]
    digest = hashlib.sha256("\n".join(canonical).encode()).hexdigest()
    to_sign = "\n".join(["AWS4-HMAC-SHA256", given["x-amz-date"], scope, digest])
    key = f"AWS4{account.secret}".encode()
    for part in [*scope.split("/"), to_sign]:
        key = hmac.digest(key, part.encode(), "sha256")
    given["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={account.key}/{scope}, SignedHeaders={';'.join(signed)}, Signature={key.hex()}"
    )
    return list(given.items())
