"""Job specifications on a Ray cluster, by its Jobs API: `clipmill run` there, of the code that is here."""

from __future__ import annotations

import asyncio
import logging
import shlex
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray.exceptions import AuthenticationError
from ray.job_submission import JobStatus, JobSubmissionClient

from ...pipeline.errors import ClipmillError, InfrastructureError, UserError, one_line
from ...pipeline.redaction import shows_secret
from ...pipeline.running.cluster_address import AuthToken, token_refused
from .wheel import build_wheel

_JOB_FILE = "job.yaml"
# loggers that tell of every upload and every closed connection
_TALKATIVE = (
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
    "ray._private.runtime_env.packaging",
)


class RemoteJobError(ClipmillError):
    """The job failed or was stopped; clipmill ends with its exit code."""

    def __init__(self, reason: str, exit_code: int) -> None:
        super().__init__(reason)
        self.exit_code = exit_code


@dataclass(frozen=True)
class Submission:
    """specification: its text. address: of the cluster's dashboard, http://head:8265. ship: send this clipmill along,
    rather than use the cluster's own. Paths and slots in the specification are the cluster's; `date` and `variables` go
    with it."""

    specification: str
    address: str
    date: str
    variables: Sequence[str] = ()
    ship: bool = True
    as_json: bool = False

    @property
    def entrypoint(self) -> str:
        words = ["python", "-m", "clipmill.jobs.cli", "run", _JOB_FILE, "--date", self.date]
        words += [word for variable in self.variables for word in ("--set", variable)]
        return shlex.join([*words, *(["--json"] if self.as_json else [])])


def submit(submission: Submission) -> str:
    """Submit; returns the job's id. UserError for an address that is not a URL, for a secret among the variables and
    for a token that the cluster refuses; InfrastructureError where no dashboard answers."""
    for variable in submission.variables:
        if shows_secret(variable):
            raise UserError(
                f"--set {variable.partition('=')[0]}: a secret, which the cluster's dashboard would show: set it in "
                "the cluster's environment and write {{ env.NAME }} in the specification"
            )
    client = _client(submission.address)
    with tempfile.TemporaryDirectory(prefix="clipmill-submit-") as folder:
        working = Path(folder) / "job"
        working.mkdir()
        (working / _JOB_FILE).write_text(submission.specification, encoding="utf-8")
        environment: dict[str, Any] = {"working_dir": str(working)}
        if submission.ship:
            environment["py_modules"] = [str(build_wheel(Path(folder)))]
        with _asking(submission.address):
            return str(client.submit_job(entrypoint=submission.entrypoint, runtime_env=environment))


def follow(address: str, job: str, on_text: Callable[[str], object]) -> None:
    """Pass on what the job prints until it ends. RemoteJobError, with its exit code, where it ends badly."""
    client = _client(address)

    async def tail() -> None:
        async for text in client.tail_job_logs(job):
            on_text(text)

    with _asking(address):
        asyncio.run(tail())
        details = client.get_job_info(job)
    if details.status == JobStatus.SUCCEEDED:
        return
    code = details.driver_exit_code if details.driver_exit_code and details.driver_exit_code > 0 else 1
    reason = one_line(details.message or "no reason given")[-300:]
    raise RemoteJobError(f"{job} at {address}: {details.status.value.lower()}: {reason}", code)


def cancel(address: str, job: str) -> bool:
    """Ask the job to stop, as SIGTERM does; False where it has ended already."""
    client = _client(address)
    with _asking(address):
        return bool(client.stop_job(job))


def _client(address: str) -> JobSubmissionClient:
    if not address.startswith(("http://", "https://")):
        raise UserError(f"--address {address}: must be the cluster's dashboard, http://HOST:8265")
    token = AuthToken.find()  # Ray sends it only in a mode that has to be named; a head may want it without
    with _asking(address):
        client = JobSubmissionClient(address, headers=dict([token.header]) if token else {})
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
    return client


@contextmanager
def _asking(address: str) -> Iterator[None]:
    """Ray raises RuntimeError and ConnectionError for whatever a dashboard answers, or does not."""
    try:
        yield
    except AuthenticationError as error:
        raise token_refused(address, AuthToken.find()) from error
    except (RuntimeError, OSError) as error:
        raise InfrastructureError(
            f"{address}: the request to the Ray dashboard failed: {one_line(error)[:300]}"
        ) from error
