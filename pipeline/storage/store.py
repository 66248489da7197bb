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
_QUESTIONS = 16  # more than runs that begin at one moment


class _UploadGone(OSError):
    """The store forgot an upload in pieces before it was complete."""


def put_file(storage: fsspec.AbstractFileSystem, path: Path, url: str, *, create: bool) -> None:
    """Upload a local file as one object, in one piece where it is not larger than 1 GiB. With `create` an object that
    exists is left alone without an error: an answer may have got lost, or another writer was faster with the same."""
    options: dict[str, Any] = {"mode": "create"} if create else {}
    if hasattr(storage, "call_s3"):
        size = path.stat().st_size
        options |= {"chunksize": _ONE_PUT if size <= _ONE_PUT else _PIECE, "max_concurrency": _AT_ONCE}

    def put() -> None:
        try:
            storage.put_file(str(path), url, **options)
        except FileNotFoundError as error:
            if error_code(error) != "NoSuchUpload":
                raise
            # another driver took this upload for an abandoned one, or the answer to its completion got lost
            raise _UploadGone(f"{url}: the upload is gone") from error

    try:
        retry(put)
    except Exception as error:
        if not (create and already_exists(error)):
            raise


def honours_create(storage: fsspec.AbstractFileSystem, url: str) -> bool:
    """Whether `mode="create"` leaves an existing object alone; `url` must exist. False where that is unknown.

    Where others ask by the same object and delete it, a create can succeed because it was gone. Each of them deletes it
    once, so a few more questions tell such a store from one that ignores the condition."""
    try:
        for _ in range(_QUESTIONS):
            retry(lambda: storage.pipe_file(url, b"", mode="create"), attempts=3)
    except Exception as error:
        return already_exists(error)
    return False


def abort_uploads(storage: fsspec.AbstractFileSystem, url: str, is_own: Callable[[str], bool]) -> None:
    """Abort the unfinished multipart uploads below `url` whose name there `is_own` accepts. Nobody sees them, but they
    cost money. A writer that is still alive begins its upload again."""
    if not hasattr(storage, "call_s3"):
        return
    bucket, key, _ = storage.split_path(url)
    folder = f"{key}/" if key else ""
    try:
        for upload in _uploads(storage, bucket, folder):
            if is_own(upload["Key"].removeprefix(folder)):
                request = {"Bucket": bucket, "Key": upload["Key"], "UploadId": upload["UploadId"]}
                with suppress(FileNotFoundError):  # it has ended
                    retry(partial(storage.call_s3, "abort_multipart_upload", **request), attempts=3)
    except OSError:  # not allowed, or not supported by this store: the uploads stay, which is untidy but harmless
        return


def _uploads(storage: fsspec.AbstractFileSystem, bucket: str, prefix: str) -> Iterator[dict[str, Any]]:
    """All unfinished uploads, page by page."""
    after: dict[str, str] | None = {}
    while after is not None:
        request = {"Bucket": bucket, "Prefix": prefix, **after}
        page = retry(partial(storage.call_s3, "list_multipart_uploads", **request), attempts=3)
        yield from page.get("Uploads", [])
        more = page.get("IsTruncated")
        after = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]} if more else None
