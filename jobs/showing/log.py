"""Progress for logs: a line an event on stderr, as text or JSON, where CLIPMILL_LOG says so."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime, timezone
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ...pipeline.running.events import Event

LOG = "CLIPMILL_LOG"  # bar, text or json


def embed_progress() -> AbstractContextManager[Callable[[Event], None]]:
    """What is told of every event of `embed`."""
    from .progress import EmbedProgress

    how = os.environ.get(LOG, "bar")
    return EmbedProgress() if how == "bar" else nullcontext(_writer(how))


def _writer(how: str) -> Callable[[Event], None]:
    from ...pipeline.running.messages import as_json, as_text, is_progress

    say = as_json if how == "json" else as_text

    def write(event: Event) -> None:
        if not is_progress(event):
            print(
                say(event, datetime.now(timezone.utc).isoformat(timespec="milliseconds")), file=sys.stderr, flush=True
            )

    return write
