"""An object on a storage that gives ranges of it, and may misbehave."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable

CONTENT = random.Random(0).randbytes(10_000)
OnCall = Callable[[int, int, int], bytes | None]  # start, end, how often it was asked for -> other bytes


class FakeStorage:
    """Gives byte ranges of `content`, as object stores do: fewer where the object ends. `on_call` may interfere."""

    def __init__(self, content: bytes = CONTENT, on_call: OnCall = lambda *_: None) -> None:
        self.content, self.on_call = content, on_call
        self.calls: Counter[tuple[int, int]] = Counter()
        self._lock = threading.Lock()

    def cat_file(self, url: str, start: int, end: int) -> bytes:
        with self._lock:
            self.calls[start, end] += 1
            attempt = self.calls[start, end]
        other = self.on_call(start, end, attempt)
        return self.content[start:end] if other is None else other
