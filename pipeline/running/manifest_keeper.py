"""Keeps what became of each part, in little memory, and writes it into the manifest while the run goes on."""

from __future__ import annotations

import time
from contextlib import suppress

from ..dataset.manifest import Manifest, read_manifest, write_manifest
from ..dataset.output import Output
from ..errors import ClipmillError
from ..records import ShardStats
from .events import Event, ShardDone

_RECENT = 1024  # parts that are Python's objects; the others are packed, in a thirtieth of the memory
_SECONDS = 300.0  # seconds between two manifests: after a killed run only the footers of younger parts need be read


class ManifestKeeper:
    """Of the parts that one run commits."""

    def __init__(self, output: Output, seconds: float = _SECONDS) -> None:
        self._output, self._seconds = output, seconds
        self._recent: list[ShardStats] = []
        self._packed: list[bytes] = []
        self._written = time.monotonic()
        self._has_news = False

    def see(self, event: Event) -> None:
        if isinstance(event, ShardDone):
            self._recent.append(event.stats)
            self._has_news = True
            if len(self._recent) >= _RECENT:
                self._packed.append(Manifest.of(self._recent).packed())
                self._recent = []
        if self._has_news and time.monotonic() - self._written >= self._seconds:
            self._write()

    @property
    def manifest(self) -> Manifest:
        """Of these parts, as far as they are committed by now."""
        packed = Manifest.of()
        for content in self._packed:
            packed += Manifest.unpacked(content)
        return packed + Manifest.of(self._recent)

    def _write(self) -> None:
        with suppress(ClipmillError, OSError):  # the end of the run writes it, or the footers tell
            rows = read_manifest(self._output) + self.manifest
            write_manifest(self._output, rows.only(dict.fromkeys(rows.urls)))
        self._written, self._has_news = time.monotonic(), False
