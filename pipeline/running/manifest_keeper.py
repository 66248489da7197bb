"""Keeps what became of each part, in little memory, and appends it to the manifest while the run goes on.

In a thread of its own: the driver's loop only hands over. Where parts come faster than the thread gets on beside it,
the loop leaves it a moment: what is not packed takes kilobytes a part.
"""

from __future__ import annotations

import threading
import time
import zlib
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

import pyarrow as pa

from ..dataset.manifest import Manifest
from ..dataset.manifest_files import Segments
from ..dataset.output import Output
from ..errors import ClipmillError
from ..records import Shard, ShardStats
from .events import Event, ShardDone

if TYPE_CHECKING:
    from typing_extensions import Self

_RECENT = 1024  # parts that are Python's objects; of the others their names are kept, in ten bytes each
_MOST = 32  # times so many, that make a segment before its time
_BEHIND = 2  # times so many: of more, the loop lets the thread have the interpreter
_LEAVE = 0.1  # seconds that it does at most
_END = "\0"  # of a URL: none holds it
_SECONDS = 30.0  # seconds between two segments: of younger parts, the footers tell after a killed run


class ManifestKeeper:
    """Of the parts that one run commits. Whoever uses it as a context has them in the output's manifest at its end."""

    def __init__(self, output: Output, seconds: float = _SECONDS) -> None:
        self._segments, self._seconds = Segments(output), seconds
        self._recent: deque[tuple[Shard, ShardStats]] = deque()
        self._packed: list[bytes] = []  # in no segment yet
        self._urls: list[bytes] = []
        self._count = 0  # parts that were handed over
        self._many = threading.Event()  # parts are recent, or it is the end
        self._fewer = threading.Event()  # it has caught up
        self._ended = False
        self._thread: threading.Thread | None = None

    def see(self, event: Event) -> None:
        if not isinstance(event, ShardDone):
            return
        self._recent.append((event.shard, event.stats))
        self._count += 1
        if len(self._recent) >= _RECENT:
            self._many.set()
        if self._count % _RECENT == 0 and len(self._recent) > _BEHIND * _RECENT:
            self._fewer.clear()
            self._fewer.wait(_LEAVE)
        if self._thread is None:
            self._thread = threading.Thread(target=self._keep, daemon=True, name="manifest")
            self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = True
        self._many.set()
        if self._thread is not None:
            self._thread.join()

    @property
    def urls(self) -> pa.Array:
        """The shards of these parts, each once, when it has ended: Arrow's strings, a third of Python's."""
        packed = (zlib.decompress(urls).decode().split(_END) for urls in self._urls)
        return pa.chunked_array(map(pa.array, packed), pa.string()).unique()

    @property
    def unsaved(self) -> Manifest:
        """What the output's manifest lacks, as it could not be written."""
        return sum(map(Manifest.unpacked, self._packed), Manifest.of())

    def _keep(self) -> None:
        written = time.monotonic()
        while not self._ended:
            self._many.wait(max(0.0, written + self._seconds - time.monotonic()))
            self._many.clear()
            self._pack()
            if time.monotonic() - written >= self._seconds or len(self._packed) >= _MOST:
                self._write()
                written = time.monotonic()
        self._pack()
        self._write()

    def _pack(self) -> None:
        """What is recent now: while more comes than this packs, segments are to be written all the same."""
        for _ in range(-(-len(self._recent) // _RECENT)):
            parts = [self._recent.popleft() for _ in range(min(_RECENT, len(self._recent)))]
            manifest = Manifest.of(stats for _, stats in parts).under(shard.part_name for shard, _ in parts)
            self._packed.append(manifest.packed())
            self._urls.append(zlib.compress(_END.join(stats.url for _, stats in parts).encode()))
            if len(self._recent) <= _BEHIND * _RECENT:
                self._fewer.set()

    def _write(self) -> None:
        if not self._packed:
            return
        with suppress(ClipmillError, OSError):  # later, then: the end of the run writes it, or the footers tell
            self._segments.append(self.unsaved)
            self._packed = []
        pa.default_memory_pool().release_unused()
