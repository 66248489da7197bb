"""Try again where the storage may do better next time."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from ..errors import ClipmillError

T = TypeVar("T")

ATTEMPTS = 8  # a fifth of all requests may fail: all eight do so once in 400,000 times
_FIRST, _LONGEST = 0.1, 8.0  # seconds between attempts, doubled each time
_PATIENCE = 300.0  # seconds, after which what fails is not tried again: clients have timeouts and retries of their own

# what no second try changes
_FINAL = (
    FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError, NotADirectoryError,
    MemoryError, NotImplementedError, TypeError, ImportError, ClipmillError,
)  # fmt: skip
_FINAL_NAMES = ("NoCredentialsError", "PartialCredentialsError", "InvalidRegionError", "ParamValidationError")
_FINAL_CODES = ("PreconditionFailed", "412", "InvalidRange", "416")
_FINAL_STATUSES = (401, 403, 404, 410, 416)  # of web servers


def is_final(error: Exception) -> bool:
    """Whether trying again is in vain. Unknown errors of storage clients are taken for passing ones."""
    return (
        isinstance(error, _FINAL)
        or type(error).__name__ in _FINAL_NAMES
        or error_code(error) in _FINAL_CODES
        or getattr(error, "status", None) in _FINAL_STATUSES
    )


def already_exists(error: Exception) -> bool:
    """Whether a conditional write lost to an earlier one."""
    return isinstance(error, FileExistsError) or error_code(error) in ("PreconditionFailed", "412")


def retry(call: Callable[[], T], attempts: int = ATTEMPTS) -> T:
    """`call()`, again and again with growing, jittered pauses while it raises what may pass."""
    began = time.monotonic()
    for attempt in range(attempts):
        try:
            return call()
        except Exception as error:
            if attempt == attempts - 1 or is_final(error) or time.monotonic() - began > _PATIENCE:
                raise
        time.sleep(random.uniform(0.5, 1.0) * min(_FIRST * 2**attempt, _LONGEST))
    raise AssertionError("unreachable")


def error_code(error: Exception) -> str | None:
    """What the object store called it; s3fs makes one errno of many codes, and keeps the original as the cause."""
    for each in (error, error.__cause__):
        response = getattr(each, "response", None)
        if isinstance(response, dict):
            return str(response.get("Error", {}).get("Code"))
    return None
