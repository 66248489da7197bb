"""Small files that travel with a model, or with its card to whoever decodes and tokenises."""

from __future__ import annotations

import hashlib
import tempfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from .errors import ModelError


@dataclass(frozen=True)
class PackedFiles:
    """Files of one folder. Equal where their contents are."""

    sha256: str
    packed: tuple[tuple[str, bytes], ...] = field(repr=False, compare=False)  # by name, compressed by zlib

    @classmethod
    def of(cls, paths: Sequence[Path]) -> PackedFiles:
        """Those of one folder, by their names."""
        return cls.holding({path.name: content_of(path) for path in paths})

    @classmethod
    def holding(cls, contents: Mapping[str, bytes]) -> PackedFiles:
        """By name, which may lead into folders: `text/config.json`."""
        digest, packed = hashlib.sha256(), []
        for name, content in sorted(contents.items()):
            digest.update(f"{name} {len(content)}\n".encode() + content)
            packed.append((name, zlib.compress(content, 1)))
        return cls(digest.hexdigest(), tuple(packed))

    @property
    def contents(self) -> dict[str, bytes]:
        return {name: zlib.decompress(content) for name, content in self.packed}

    @contextmanager
    def unpacked(self) -> Iterator[Path]:
        """A folder with the files, for as long as the context lasts."""
        with tempfile.TemporaryDirectory(prefix="clipmill-") as folder:
            for name, content in self.contents.items():
                path = Path(folder) / name
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(content)
            yield Path(folder)


def content_of(path: Path) -> bytes:
    """ModelError where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror or error}") from error
