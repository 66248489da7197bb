"""Whether a URL's server is there at all: told in seconds, where storage clients try for most of a minute."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...clipmodel.network import why_unreachable
from ..errors import InfrastructureError
from .urls import canonical_url, is_web, open_storage, scheme_of

_SERVERS = {"gs": "https://storage.googleapis.com"}


def check_reachable(url: str, storage_options: Mapping[str, Any] | None = None) -> None:
    """InfrastructureError where nobody answers. InputError for a URL that is refused for itself: it may hold a secret,
    which no server is sent. Other errors are left to whoever uses the URL."""
    canonical_url(url)
    server = _server_of(url, storage_options)
    if server and (reason := why_unreachable(server)):
        remedy = "" if is_web(url) else ", or name the store by --storage-option endpoint_url=URL"
        raise InfrastructureError(f"{url}: no answer from {server}: {reason}; check the network{remedy}")


def _server_of(url: str, storage_options: Mapping[str, Any] | None) -> str | None:
    if is_web(url):
        return url
    if scheme_of(url) != "s3":
        return _SERVERS.get(scheme_of(url))
    try:
        storage: Any = open_storage(url, storage_options)
        storage.connect()  # which only makes a client, of the user's options, environment and settings
        return str(storage.s3.meta.endpoint_url)
    except Exception:  # told by whoever uses the storage
        return None
