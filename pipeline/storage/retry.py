"""Calls to storage that may fail for a while, tried again."""

from __future__ import annotations

import errno
import random
import time
from collections.abc import Callable
from itertools import count
from typing import Any, TypeVar

from ..errors import ClipmillError

T = TypeVar("T")

ATTEMPTS = 8  # where a fifth of all requests fail, all eight do so once in 400,000 calls
_FIRST, _LONGEST = 0.1, 8.0  # seconds between attempts, doubled each time
_PATIENCE = 300.0  # seconds after which a failed call is not tried again: clients retry by themselves, too

# errors that a second attempt does not change
_FINAL = (
    FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError, NotADirectoryError,
    MemoryError, NotImplementedError, TypeError, ImportError, ClipmillError,
)  # fmt: skip
_FINAL_NAMES = ("NoCredentialsError", "PartialCredentialsError", "InvalidRegionError", "ParamValidationError")
_FINAL_CODES = ("PreconditionFailed", "412", "InvalidRange", "416")
_FINAL_STATUSES = (401, 403, 404, 410, 416)  # of web servers
_TOO_MANY = 429  # their word for: come back later. S3's is counted in paced_s3.py

# no room: on a disk, and as stores say it (Ceph; MinIO; WebDAV's status, which stores without a code of their own use)
FULL = (errno.ENOSPC, errno.EDQUOT)
_FULL_CODES = ("QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "InsufficientStorage", "507")
_FULL_STATUS = 507


def is_full(error: Exception) -> bool:
    """Whether a disk or a store has no room for what was to be written."""
    response = _response(error)
    statuses = (response.get("ResponseMetadata", {}).get("HTTPStatusCode"), getattr(error, "status", None))
    is_disk = isinstance(error, OSError) and error.errno in FULL
    return is_disk or error_code(error) in _FULL_CODES or _FULL_STATUS in statuses


def is_final(error: Exception) -> bool:
    """Whether trying again is useless. Unknown errors of storage clients count as temporary."""
    return (
        isinstance(error, _FINAL)
        or is_full(error)
        or type(error).__name__ in _FINAL_NAMES
        or error_code(error) in _FINAL_CODES
        or getattr(error, "status", None) in _FINAL_STATUSES
    )


def already_exists(error: Exception) -> bool:
    """Whether a conditional write lost to an earlier one."""
    return isinstance(error, FileExistsError) or error_code(error) in ("PreconditionFailed", "412")


def retry(call: Callable[[], T], attempts: int = ATTEMPTS) -> T:
    """`call()`, tried again with growing, jittered pauses while its error may be temporary. Being told to come back
    later is no failed attempt."""
    began = time.monotonic()
    failed = 0
    for pause in count():
        try:
            return call()
        except Exception as error:
            soon = attempts < ATTEMPTS  # who allows few attempts wants an answer soon
            failed += soon or getattr(error, "status", None) != _TOO_MANY
            if failed == attempts or is_final(error) or time.monotonic() - began > _PATIENCE:
                raise
        time.sleep(random.uniform(0.5, 1.0) * min(_FIRST * 2**pause, _LONGEST))
    raise AssertionError("unreachable")


def error_code(error: Exception) -> str | None:
    """The object store's own code. s3fs turns many codes into one errno, and keeps the original error as the cause."""
    response = _response(error)
    return str(response.get("Error", {}).get("Code")) if response else None


def _response(error: Exception) -> dict[str, Any]:
    """The store's answer; empty where there is none."""
    for candidate in (error, error.__cause__):
        response = getattr(candidate, "response", None)
        if isinstance(response, dict):
            return response
    return {}
