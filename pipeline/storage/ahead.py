"""Run an iterator in a thread, a few items ahead of whoever consumes it."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

T = TypeVar("T")
_END = object()


@dataclass(frozen=True)
class Waits:
    """Entered while the consumer waits for an item, and while the iterator's thread waits for room."""

    for_items: Callable[[], AbstractContextManager[None]] = nullcontext
    for_room: Callable[[], AbstractContextManager[None]] = nullcontext


@contextmanager
def ahead(items: Iterable[T], depth: int, waits: Waits | None = None) -> Generator[Iterable[T], None, None]:
    """The same items in the same order, up to `depth` of them produced ahead of the consumer.

    An exception of the iterator reaches the consumer after the items before it. Leaving the context stops the thread
    and closes the iterator.
    """
    runner = _Runner(items, depth, waits or Waits())
    try:
        yield runner
    finally:
        runner.stop()


class _Runner(Generic[T]):
    def __init__(self, items: Iterable[T], depth: int, waits: Waits) -> None:
        self._items, self._waits = items, waits
        self._queue: queue.Queue[Any] = queue.Queue(depth)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._fill, daemon=True, name="ahead")
        self._thread.start()

    def __iter__(self) -> Generator[T, None, None]:
        while True:
            with self._waits.for_items():
                item, error = self._queue.get()
            if error is not None:
                raise error
            if item is _END:
                return
            yield item

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _fill(self) -> None:
        iterator: Iterator[T] | None = None
        try:
            iterator = iter(self._items)
            for item in iterator:
                if not self._offer((item, None)):
                    return
            self._offer((_END, None))
        except BaseException as error:
            self._offer((None, error))
        finally:
            close = getattr(iterator, "close", None)
            if close:
                close()

    def _offer(self, entry: tuple[Any, BaseException | None]) -> bool:
        """False once the consumer has stopped."""
        with self._waits.for_room():
            while not self._stopped.is_set():
                with suppress(queue.Full):
                    self._queue.put(entry, timeout=0.1)
                    return True
        return False
