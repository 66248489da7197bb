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
