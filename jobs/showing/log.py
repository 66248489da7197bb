"""Progress for logs: a line an event on stderr, as text or JSON, where CLIPMILL_LOG says so."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime, timezone
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self

    from ...pipeline.running.events import Event

LOG = "CLIPMILL_LOG"  # bar, text or json
SILENCE = 30.0  # seconds without a line, after which one says how far the run is
_PREFIX = "clipmill: "  # of the line that ends a command


def log_kind() -> str:
    return os.environ.get(LOG, "bar")


def embed_progress() -> AbstractContextManager[Callable[[Event], None]]:
    """What is told of every event of `embed`."""
    from .progress import EmbedProgress

    return EmbedProgress() if log_kind() == "bar" else EventLines(_writer(log_kind()))


class EventLines:
    """Writes a line for each event; and where nothing happens for long, one that says how far the run is."""

    def __init__(self, write: Callable[[Event], None], silence: float = SILENCE) -> None:
        self._write, self._silence = write, silence
        self._shards = self._embedded = self._failed = self._in_flight = 0
        self._last = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._break_silence, daemon=True, name="log")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def __call__(self, event: Event) -> None:
        from ...pipeline.running.events import Rows, ShardDone, ShardFailed

        if isinstance(event, Rows):  # twice a second
            self._embedded += event.embedded
            self._failed += event.failed
            self._in_flight = event.in_flight
            return
        self._shards += isinstance(event, (ShardDone, ShardFailed))
        self._last = time.monotonic()
        self._write(event)

    def _break_silence(self) -> None:
        from ...pipeline.running.events import SoFar

        while not self._ended.wait(max(0.01, self._last + self._silence - time.monotonic())):
            if time.monotonic() - self._last >= self._silence:
                self(SoFar(self._shards, self._embedded, self._failed, self._in_flight))


def _writer(kind: str) -> Callable[[Event], None]:
    from ...pipeline.running.messages import as_json, as_text

    say = as_json if kind == "json" else as_text
    stream = _json.stream if _json else sys.stderr
    return lambda event: _line(say(event, _now()), stream)


class _Json:
    """Stderr as lines of JSON and nothing else."""

    def __init__(self) -> None:
        sys.stderr.flush()
        self.stream = os.fdopen(os.dup(2), "w", encoding="utf-8")  # past the pipe
        reading, writing = os.pipe()
        os.dup2(writing, 2)
        os.close(writing)
        self._wrapping = threading.Thread(target=_wrap, args=(reading, self.stream), daemon=True, name="log")
        self._wrapping.start()

    def end(self) -> None:
        sys.stderr.flush()
        os.dup2(self.stream.fileno(), 2)  # which closes the pipe, unless a process that we started holds it still
        self._wrapping.join(1)


_json: _Json | None = None


def begin_json() -> None:
    """From now on stderr is lines of JSON and nothing else: what Ray, other libraries and this program's own notices
    write there becomes the text of such lines."""
    global _json
    _json = _json or _Json()


def end_json() -> None:
    """Stderr is what it was."""
    global _json
    if _json is not None:
        _json.end()
        _json = None


def _wrap(reading: int, stream: IO[str]) -> None:
    with os.fdopen(reading, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if text := line.strip():
                event = "error" if text.startswith(_PREFIX) else "message"
                said = {"time": _now(), "event": event, "text": text.removeprefix(_PREFIX)}
                _line(json.dumps(said, ensure_ascii=False), stream)


def _line(text: str, stream: IO[str]) -> None:
    stream.write(f"{text}\n")  # in one piece: several threads write
    stream.flush()


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")
