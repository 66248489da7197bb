"""The webhook of a job specification: a chat, pager or scheduler gets the outcome of a run."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any

from ...clipmodel.errors import ClipmillError
from ...pipeline.redaction import redacted_text
from ...pipeline.storage.retry import retry
from ..showing.console import err

_TRIES = 3
_TIMEOUT = 10  # seconds


@contextmanager
def notifying(url: str | None, about: dict[str, Any]) -> Iterator[None]:
    """POST JSON to `url` when the context is left: `about`, with `ok`, `exit_code`, `error` and the times. A webhook
    that fails costs a line on stderr and nothing more."""
    began = datetime.now(timezone.utc)
    outcome: dict[str, Any] = {"ok": True, "exit_code": 0, "error": None}
    try:
        yield
    except ClipmillError as error:
        outcome = {"ok": error.exit_code == 0, "exit_code": error.exit_code, "error": redacted_text(str(error))}
        raise
    except BaseException as error:
        code = 130 if isinstance(error, KeyboardInterrupt) else 1
        outcome = {"ok": False, "exit_code": code, "error": redacted_text(str(error) or type(error).__name__)}
        raise
    finally:
        if url:
            times = {"began": began.isoformat(), "ended": datetime.now(timezone.utc).isoformat()}
            _post(url, {**about, **outcome, **times})


def _post(url: str, content: dict[str, Any]) -> None:
    headers = {"Content-Type": "application/json", "User-Agent": "clipmill"}
    request = urllib.request.Request(url, json.dumps(content).encode(), headers)
    try:
        retry(lambda: urllib.request.urlopen(request, timeout=_TIMEOUT).close(), _TRIES)
    except (OSError, ValueError) as error:
        err.print(f"the webhook got no message: {redacted_text(str(error))}")
