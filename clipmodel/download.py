"""Fetching weights: plain URLs into clipmill's cache, and files of Hugging Face repositories into its own cache. Never
prints."""

from __future__ import annotations

import hashlib
import http.client
import inspect
import os
import re
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

from .errors import ModelError, one_line
from .network import why_unreachable

Progress = Callable[[int, "int | None"], None]  # bytes done, bytes in all where known

ATTEMPTS = 5  # in a row that bring no byte
TIMEOUT = 30.0  # seconds without a byte
BACKOFF = 1.0  # seconds before the second attempt; doubles
_CHUNK = 1 << 20


def cache_folder() -> Path:
    return Path(os.environ.get("CLIPMILL_CACHE") or Path.home() / ".cache" / "clipmill")


def sha256_of(files: Iterable[Path]) -> str:
    """Hex digest of the files' bytes, one after the other."""
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    return digest.hexdigest()


def fetch(
    url: str,
    target: Path,
    sha256: str | None,
    progress: Progress | None = None,
    *,
    name: str = "NAME",
    option: str = "--model",
) -> Path:
    """The file at `url`, verified, at `target`; only what is not there yet is downloaded. sha256: None where it is not
    published.

    The bytes collect in `target` + ".part"; an interrupted download leaves that file and the next one continues it. A
    lock file keeps processes of one machine from writing it together. ModelError when the file cannot be downloaded
    or has another hash than `sha256`, and within seconds where the network is not reached; `name` is the model's, and
    `option` the one that names it, for that message.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{target}.lock"):
            if not target.exists():
                part = target.with_name(target.name + ".part")
                advice = f"put the file at {target}, or give its path: {option} {name}=PATH"
                if reason := why_unreachable(url):
                    raise ModelError(f"{name}: cannot download {url}: the network is not reached ({reason}): {advice}")
                _download(url, part, progress, advice)
                if (actual := sha256_of([part])) != sha256 and sha256 is not None:
                    part.unlink()
                    raise ModelError(f"{url} has sha256 {actual}, not {sha256}: the download was deleted; try again")
                part.replace(target)
    except OSError as error:
        raise ModelError(f"cannot write {target}: {error.strerror or error}; set CLIPMILL_CACHE to a folder") from error
    return target


def _download(url: str, part: Path, progress: Progress | None, advice: str) -> None:
    failures = 0
    while True:
        before = _size(part)
        try:
            return _resume(url, part, progress)
        except urllib.error.HTTPError as error:
            if error.code < 500 and error.code not in (408, 416, 429):
                raise ModelError(f"{url} answers {error.code} {error.reason}: {advice}") from error
            reason = f"{error.code} {error.reason}"
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError, ssl.SSLError) as error:
            reason = str(getattr(error, "reason", "") or error or type(error).__name__)
        failures = 1 if _size(part) > before else failures + 1
        if failures >= ATTEMPTS:
            raise ModelError(f"cannot download {url} ({reason}): {advice}")
        time.sleep(BACKOFF * 2 ** (failures - 1))


def _resume(url: str, part: Path, progress: Progress | None) -> None:
    """Append to `part` what it lacks; raises when the connection ends early."""
    done = _size(part)
    headers = {"User-Agent": "clipmill", "Accept-Encoding": "identity"}
    if done:
        headers["Range"] = f"bytes={done}-"
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        total = re.search(r"/(\d+)$", error.headers.get("Content-Range", ""))
        if total and int(total[1]) == done:  # it was complete already
            return
        part.unlink()  # longer than the file, so it is a part of another one
        raise
    with response:
        if response.status != 206:
            done = 0  # a server without ranges sends everything again
        length = response.headers.get("Content-Length")
        total_bytes = done + int(length) if length else None
        with part.open("ab" if done else "wb") as file:
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                done += len(chunk)
                if progress:
                    progress(done, total_bytes)
    if total_bytes is not None and done < total_bytes:
        raise ConnectionError(f"connection lost at {done} of {total_bytes} bytes")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def fetch_hub(repo: str, files: Sequence[str], progress: Progress | None = None, *, name: str = "NAME") -> Path:
    """The first of `files` that the Hugging Face repository has; from its cache, without a request, if there.

    ModelError when none can be downloaded, within seconds where the network is not reached; `name` is the model's, for
    that message.
    """
    import huggingface_hub
    from huggingface_hub import constants

    for file in files:
        cached = huggingface_hub.try_to_load_from_cache(repo, file)
        if isinstance(cached, str):
            return Path(cached)
    options: dict[str, Any] = {}
    if "tqdm_class" in inspect.signature(huggingface_hub.hf_hub_download).parameters:
        options["tqdm_class"] = silent_bar(progress)
    advice = f"get its {files[0]} and give --model {name}=PATH"
    if not constants.HF_HUB_OFFLINE and (reason := why_unreachable(constants.ENDPOINT)):
        source = f"{repo} from Hugging Face"
        raise ModelError(f"{name}: cannot download {source}: the network is not reached ({reason}): {advice}")
    with quiet_hub():
        for file in files:
            if path := _hub_file(repo, file, options, advice):
                return path
    raise ModelError(f"{repo} on Hugging Face has no {' or '.join(files)}: {advice}")


@contextmanager
def quiet_hub() -> Iterator[None]:
    """The hub's client prints a line for each attempt; our one line has the reason."""
    from huggingface_hub.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _hub_file(repo: str, file: str, options: dict[str, Any], advice: str) -> Path | None:
    """None where the repository exists and the file does not."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(repo, file, **options))
    except Exception as error:  # the client's own kinds and its transport's
        cause: BaseException = error
        if isinstance(error, LocalEntryNotFoundError):  # it could not ask, or did not understand the answer
            cause = error.__cause__ or error
            absent = getattr(getattr(cause, "response", None), "status_code", None) == 404  # a mirror's way to say it
        else:
            absent = isinstance(error, EntryNotFoundError)
        if absent:
            return None
        raise ModelError(f"cannot download {repo} from Hugging Face ({_first_sentence(cause)}): {advice}") from error


def expected_hub_sha256(path: Path) -> str | None:
    """The hash by which the Hugging Face cache names a large file's bytes."""
    blob = path.resolve().name
    return blob if re.fullmatch(r"[0-9a-f]{64}", blob) else None


def _first_sentence(error: BaseException) -> str:
    return re.split(r"(?<=[a-z)])\. ", one_line(error))[0].rstrip(".")


def silent_bar(progress: Progress | None) -> type:
    """A progress bar class, as the hub's client wants one, that draws nothing and calls `progress`."""
    from tqdm import tqdm

    class Bar(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            kwargs.pop("name", None)
            self._done, self._all = kwargs.get("initial") or 0, kwargs.get("total")
            super().__init__(*args, **{**kwargs, "disable": True})

        def update(self, n: float | None = 1) -> None:
            self._done += int(n or 0)
            if progress:
                progress(self._done, self._all)

    return Bar
