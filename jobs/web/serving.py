"""`serve`: a web server around the page, until somebody stops it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn

from ...clipmodel.download import Progress
from ...pipeline.errors import UserError
from ...pipeline.job.serve import ServeJob
from ...pipeline.searching.dense import OnBytes
from .app import app_of
from .site import Site

OnReady = Callable[[int, str], None]  # the dataset's rows, and the page's address


def serve(
    job: ServeJob,
    on_ready: OnReady = lambda *_: None,
    on_bytes: OnBytes = lambda *_: None,
    on_download: Progress | None = None,
) -> None:
    """Show a dataset on a web page until the process is interrupted.

    `on_ready` is called once the server answers. UserError for what does not fit the dataset, and for an address that
    cannot be listened at.
    """
    job.check()
    with _listening(job) as sock, Site.open(job, on_bytes, on_download) as site:
        host = f"[{job.host}]" if ":" in job.host else job.host
        on_ready(site.rows.rows, f"http://{host}:{sock.getsockname()[1]}/")
        config = uvicorn.Config(app_of(site), log_level="warning", access_log=False, server_header=False)
        uvicorn.Server(config).run(sockets=[sock])


@contextmanager
def _listening(job: ServeJob) -> Iterator[socket.socket]:
    """A socket at the job's address. Opened before the dataset, so that a port that is taken is refused at once."""
    family = socket.AF_INET6 if ":" in job.host else socket.AF_INET
    try:
        sock = socket.create_server((job.host, job.port), family=family)
    except OSError as error:
        raise UserError(f"--host {job.host} --port {job.port}: {error.strerror or error}") from error
    with sock:
        yield sock
