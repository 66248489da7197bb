"""How long each stage of the flow was busy."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


class Clock:
    """Busy seconds by stage; each stage has a thread of its own, so that the busiest one sets the pace."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._lock = threading.Lock()
        self._began = time.perf_counter()

    @contextmanager
    def stage(self, name: str) -> Generator[None, None, None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            with self._lock:
                self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def timed(self, name: str, items: Iterable[T]) -> Generator[T, None, None]:
        """The same items; what making each of them takes is the stage's."""
        iterator = iter(items)
        while True:
            with self.stage(name):
                item = next(iterator, None)
            if item is None:
                return
            yield item

    def total(self) -> float:
        return time.perf_counter() - self._began
