"""What keeps the page to itself: who may ask, from which page, and what a browser may do with the answers."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Awaitable, Callable

from fastapi import Request, Response
from fastapi.responses import JSONResponse

Next = Callable[[Request], Awaitable[Response]]

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class Guard:
    """host: where the server listens. Requests that name another one are refused: a page elsewhere can let its own
    name point here (DNS rebinding), but not make a browser ask for an address or for a name that is ours."""

    def __init__(self, host: str) -> None:
        self._names = {"localhost", host.lower(), socket.gethostname().lower(), socket.getfqdn().lower()}

    async def __call__(self, request: Request, call_next: Next) -> Response:
        if not self._is_ours(request.headers.get("host", "")):
            response: Response = JSONResponse({"error": "this server goes by another name"}, 421)
        elif request.url.path != "/" and request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            response = JSONResponse({"error": "not for other pages"}, 403)
        else:
            response = await call_next(request)
        response.headers.update(_HEADERS)
        return response

    def _is_ours(self, header: str) -> bool:
        name = header.rpartition(":")[0] if header.rpartition(":")[2].isdigit() else header
        name = name.strip("[]").lower()
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self._names
        return True
