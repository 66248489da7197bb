"""One file that a user names: it appears whole or not at all, and nothing else does."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import OutputError
from ..storage.urls import canonical_url, scheme_of
from .output import Output

_BEGINNING = 4096  # bytes


@dataclass(frozen=True)
class SingleFile:
    """`url` is canonical."""

    url: str
    storage_options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def at(cls, url: str, storage_options: Mapping[str, Any] | None = None) -> SingleFile:
        """OutputError for a folder."""
        if url.endswith(("/", os.sep)) or Path(url).is_dir():
            raise OutputError(f"{url} is a folder; name a file")
        return cls(canonical_url(url), dict(storage_options or {}))

    def check_own(self, mark: bytes, step: str) -> None:
        """OutputError for a file that does not hold `mark` within its first bytes, which this step would have written.
        An empty file is nobody's."""
        beginning = self._beginning()
        if beginning and mark not in beginning:
            raise OutputError(
                f"{self.url} is there already, and `clipmill {step}` did not write it: name another file, or add "
                "--overwrite to replace it"
            )

    def write(self, content: bytes) -> None:
        """Replaces the file. OutputError where it cannot be written, InfrastructureError where an object store keeps
        failing."""
        folder, _, name = self.url.rpartition("/")
        if scheme_of(self.url) != "file":
            Output.at(folder, self.storage_options).write(name, content)
            return
        path = Path(self.url)
        unfinished = path.with_name(f".{name}.{os.getpid()}.unfinished")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            unfinished.write_bytes(content)
            unfinished.replace(path)
        except OSError as error:
            raise OutputError(f"{self.url}: cannot be written: {error.strerror or error}") from error
        finally:
            with suppress(OSError):
                unfinished.unlink()

    def _beginning(self) -> bytes:
        """The file's first bytes; none where there is no file, or a device or pipe."""
        folder, _, name = self.url.rpartition("/")
        try:
            if scheme_of(self.url) != "file":
                with Output.at(folder, self.storage_options).open(name) as file:
                    return file.read(_BEGINNING)
            if Path(self.url).is_file():
                with Path(self.url).open("rb") as file:
                    return file.read(_BEGINNING)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise OutputError(f"{self.url}: cannot be read: {error.strerror or error}") from error
        return b""
