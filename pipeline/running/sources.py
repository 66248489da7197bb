"""Where the driver's shards come from: a list, or what a run claims among others (`dataset/claims.py`)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, runtime_checkable

from ..records import Shard


@runtime_checkable
class ShardSource(Protocol):
    """The shards of a run, a few at a time."""

    @property
    def left(self) -> int:
        """Shards that may come still."""

    def take(self) -> list[Shard]:
        """The next ones; none where they are all out, or in the hands of other runs for now."""

    def elsewhere(self) -> list[Shard]:
        """Those that other runs have done; each is told once, and comes no more."""

    def give_up(self) -> None:
        """Nothing comes any more."""


class Listed:
    """All at once."""

    def __init__(self, shards: Iterable[Shard]) -> None:
        self._shards = list(shards)

    @property
    def left(self) -> int:
        return len(self._shards)

    def take(self) -> list[Shard]:
        taken, self._shards = self._shards, []
        return taken

    def elsewhere(self) -> list[Shard]:
        return []

    def give_up(self) -> None:
        self._shards = []
