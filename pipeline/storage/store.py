"""What object stores need beyond fsspec's calls: files put whole, by one writer; the traces of crashed uploads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import fsspec

from .retry import already_exists, error_code, retry

_ONE_PUT = 1 << 30  # bytes; what is larger goes up in pieces (S3 itself ends at 5 GiB)
_PIECE = 64 << 20  # bytes
_AT_ONCE = 2  # pieces


class _UploadGone(OSError):
    """The store forgot an upload in pieces before it was complete."""


def put_file(storage: fsspec.AbstractFileSystem, path: Path, url: str, *, create: bool) -> None:
    """A local file becomes an object, whole, by one request. With `create` an object that is there already stays, and
    that is no error: an answer may have got lost, or somebody else was faster with the same."""
    how: dict[str, Any] = {"mode": "create"} if create else {}
    if hasattr(storage, "call_s3"):
        size = path.stat().st_size
        how |= {"chunksize": _ONE_PUT if size <= _ONE_PUT else _PIECE, "max_concurrency": _AT_ONCE}

    def put() -> None:
        try:
            storage.put_file(str(path), url, **how)
        except FileNotFoundError as error:
            if error_code(error) != "NoSuchUpload":
                raise
            # a driver that started meanwhile took it for a dead one's, or the completion's answer got lost
            raise _UploadGone(f"{url}: the upload is gone") from error

    try:
        retry(put)
    except Exception as error:
        if not (create and already_exists(error)):
            raise


def honours_create(storage: fsspec.AbstractFileSystem, url: str) -> bool:
    """Whether `mode="create"` spares an object that exists, as `url` must. Where that cannot be told: no."""
    try:
        retry(lambda: storage.pipe_file(url, b"", mode="create"), attempts=3)
    except Exception as error:
        return already_exists(error)
    return False


def abort_uploads(storage: fsspec.AbstractFileSystem, url: str, ours: Callable[[str], bool]) -> None:
    """End the unfinished uploads in pieces below `url`, those that are `ours` by their name there. Nobody sees them,
    but they are paid for. A writer that still lives begins its upload again."""
    if not hasattr(storage, "call_s3"):
        return
    bucket, key, _ = storage.split_path(url)
    folder = f"{key}/" if key else ""
    try:
        for upload in _uploads(storage, bucket, folder):
            if ours(upload["Key"].removeprefix(folder)):
                which = {"Bucket": bucket, "Key": upload["Key"], "UploadId": upload["UploadId"]}
                with suppress(FileNotFoundError):  # it has ended
                    retry(partial(storage.call_s3, "abort_multipart_upload", **which), attempts=3)
    except OSError:  # not allowed, or the store knows no such thing: nothing is lost but tidiness
        return


def _uploads(storage: fsspec.AbstractFileSystem, bucket: str, prefix: str) -> Iterator[dict[str, Any]]:
    """Page by page."""
    after: dict[str, str] | None = {}
    while after is not None:
        where = {"Bucket": bucket, "Prefix": prefix, **after}
        page = retry(partial(storage.call_s3, "list_multipart_uploads", **where), attempts=3)
        yield from page.get("Uploads", [])
        more = page.get("IsTruncated")
        after = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]} if more else None
