"""Takes down what became of each part, in little memory, and puts it into the manifest while the run goes on."""

from __future__ import annotations

import time
from contextlib import suppress

from ..dataset.manifest import Manifest, read_manifest, write_manifest
from ..dataset.output import Output
from ..errors import ClipmillError
from ..records import ShardStats
from .events import Event, ShardDone

_RECENT = 1024  # parts that are Python's objects; the others are packed, in a thirtieth of the memory
_EVERY = 300.0  # seconds between two manifests: after a killed run only the footers of younger parts need be read


class Notes:
    """Of the parts that one run commits."""

    def __init__(self, output: Output, every: float = _EVERY) -> None:
        self._output, self._every = output, every
        self._recent: list[ShardStats] = []
        self._packed: list[bytes] = []
        self._kept = time.monotonic()
        self._is_news = False

    def see(self, event: Event) -> None:
        if isinstance(event, ShardDone):
            self._recent.append(event.stats)
            self._is_news = True
            if len(self._recent) >= _RECENT:
                self._packed.append(Manifest.of(self._recent).packed())
                self._recent = []
        if self._is_news and time.monotonic() - self._kept >= self._every:
            self._keep()

    @property
    def manifest(self) -> Manifest:
        """Of these parts, as far as they are committed by now."""
        packed = Manifest.of()
        for content in self._packed:
            packed += Manifest.unpacked(content)
        return packed + Manifest.of(self._recent)

    def _keep(self) -> None:
        with suppress(ClipmillError, OSError):  # the end will tell, or the footers do
            every = read_manifest(self._output) + self.manifest
            write_manifest(self._output, every.only(dict.fromkeys(every.urls)))
        self._kept, self._is_news = time.monotonic(), False
