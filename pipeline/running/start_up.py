"""How long a run takes, and each stage of it until its first image is embedded."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Stopwatch:
    """Runs from when it is made. No stage is in two threads at once."""

    began: float = field(default_factory=time.monotonic)
    stages: dict[str, float] = field(default_factory=dict)  # seconds

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    @contextmanager
    def stage(self, name: str) -> Generator[None, None, None]:
        start = self.seconds
        try:
            yield
        finally:
            self.stages[name] = self.seconds - start

    def lap(self, name: str) -> None:
        """Note how long it has been running."""
        self.stages[name] = self.seconds
