"""How many rows a run has seen, as its events tell: for bars."""

from __future__ import annotations

from .events import Event, Rows, ShardDone


class RowsSeen:
    """rows, failed: also of shards in hand; of a shard that is tried again, twice."""

    def __init__(self) -> None:
        self.rows = self.failed = 0
        self._done_rows = self._done_failed = 0

    def take(self, event: Event) -> None:
        if isinstance(event, Rows):
            self.rows += event.embedded + event.failed
            self.failed += event.failed
        elif isinstance(event, ShardDone):
            self._done_rows += event.stats.rows
            self._done_failed += event.stats.failed

    def settle(self) -> None:
        """All shards are done: count theirs alone. Nobody asks workers again for rows since the last event."""
        self.rows, self.failed = self._done_rows, self._done_failed
