"""Whether anybody is at a Ray cluster's address, before Ray asks for minutes."""

from __future__ import annotations

import re
import socket

from ..errors import InfrastructureError

_HOST_AND_PORT = re.compile(r"(?:ray://)?\[?([^/\]]+?)\]?:(\d+)")
_PATIENCE = 5.0  # seconds


def check_address(address: str) -> None:
    """InfrastructureError where nothing listens at HOST:PORT or ray://HOST:PORT. Other addresses are Ray's to read."""
    match = _HOST_AND_PORT.fullmatch(address)
    if match is None:
        return
    try:
        socket.create_connection((match[1], int(match[2])), _PATIENCE).close()
    except (OSError, OverflowError) as error:  # the latter for ports that there are not
        raise InfrastructureError(f"no Ray cluster answers at {address}: {error}") from error
