"""Ctrl-C once: stop cleanly; twice: now. SIGTERM: cleanly, within a deadline."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType

DEADLINE = 25  # seconds after SIGTERM; clusters kill after 30


@contextmanager
def stop_requested(
    is_working: Callable[[], bool] = lambda: True, deadline: int = DEADLINE
) -> Generator[Callable[[], bool], None, None]:
    """A question to ask often, and handlers that make its answer yes. The second signal, or the deadline after
    SIGTERM, raises KeyboardInterrupt, and so does the first while `is_working` says that nothing is begun that could be
    finished. Only the main thread may handle signals: elsewhere the answer stays no."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop.is_set
        return

    def on_signal(number: int, _: FrameType | None) -> None:
        if stop.is_set() or number == signal.SIGALRM:
            raise KeyboardInterrupt
        if not is_working():
            os.write(2, b"\nstopping\n")  # at once: it takes seconds to end what is being started
            raise KeyboardInterrupt
        stop.set()
        if number == signal.SIGTERM:
            signal.alarm(deadline)

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)}
    try:
        yield stop.is_set
    finally:
        signal.alarm(0)
        for number, handler in before.items():
            signal.signal(number, handler)
