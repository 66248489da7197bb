"""Small files that travel with a model's card to whoever decodes and tokenises."""

from __future__ import annotations

import hashlib
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import ModelError


@dataclass(frozen=True)
class PackedFiles:
    """Files of one folder. Equal where their contents are."""

    sha256: str
    packed: tuple[tuple[str, bytes], ...] = field(repr=False, compare=False)  # by name, compressed by zlib

    @classmethod
    def of(cls, paths: Sequence[Path]) -> PackedFiles:
        digest, packed = hashlib.sha256(), []
        for path in sorted(paths):
            try:
                content = path.read_bytes()
            except OSError as error:
                raise ModelError(f"{path}: {error.strerror or error}") from error
            digest.update(f"{path.name} {len(content)}\n".encode() + content)
            packed.append((path.name, zlib.compress(content, 1)))
        return cls(digest.hexdigest(), tuple(packed))

    @contextmanager
    def unpacked(self) -> Iterator[Path]:
        """A folder with the files, for as long as the context lasts."""
        with tempfile.TemporaryDirectory(prefix="clipmill-") as folder:
            for name, content in self.packed:
                (Path(folder) / name).write_bytes(zlib.decompress(content))
            yield Path(folder)
