"""A web server around the page, until somebody stops it."""

from __future__ import annotations

import socket
from collections.abc import Callable

import uvicorn

from ...pipeline.errors import UserError
from .app import app_of
from .site import Site


def run(site: Site, on_ready: Callable[[str], None]) -> None:
    """Listens and answers; `on_ready` is told of the page's address. UserError where the address cannot be had."""
    job = site.job
    family = socket.AF_INET6 if ":" in job.host else socket.AF_INET
    try:
        listening = socket.create_server((job.host, job.port), family=family)
    except OSError as error:
        raise UserError(f"--host {job.host} --port {job.port}: {error.strerror or error}") from error
    with listening:
        name = f"[{job.host}]" if ":" in job.host else job.host
        on_ready(f"http://{name}:{listening.getsockname()[1]}/")
        config = uvicorn.Config(app_of(site), log_level="warning", access_log=False, server_header=False)
        uvicorn.Server(config).run(sockets=[listening])
