"""A page that is open while rows are forgotten shows nothing more of the dataset: it is to be opened again."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field

from ...pipeline.dataset.dataset import Dataset
from ...pipeline.dataset.forgotten import Asked, Forgotten
from ...pipeline.dataset.output import Output
from ...pipeline.errors import InfrastructureError, UserError

_EVERY = 5.0  # seconds between two looks


@dataclass
class Current:
    """Thread-safe."""

    dataset: Dataset  # as it was opened
    _looked: float = field(default_factory=time.monotonic)
    _is_stale: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def check(self) -> None:
        """UserError once rows were forgotten. The storage is asked every few seconds at most."""
        with self._lock:
            if not self._is_stale and time.monotonic() - self._looked >= _EVERY:
                self._looked = time.monotonic()
                with suppress(InfrastructureError, OSError):  # then the next look tells
                    self._is_stale = _is_stale(self.dataset.output, self.dataset.forgotten) or any(
                        _is_stale(side.output, side.forgotten) for side in self.dataset.sides
                    )
        if self._is_stale:
            raise UserError("rows of this dataset were forgotten since this page was opened: start it again")


def _is_stale(output: Output, forgotten: Forgotten) -> bool:
    asked = Asked.read(output)
    return asked is not None and asked.identity != forgotten.identity
