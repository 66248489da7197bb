"""Where the driver's shards come from: a list, or what a run claims among others (`dataset/claims.py`)."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from ..records import Shard

if TYPE_CHECKING:
    from typing_extensions import Self

_PAUSE = 0.3  # seconds between two questions to a source that has nothing for now


@runtime_checkable
class ShardSource(Protocol):
    """The shards of a run, a few at a time."""

    @property
    def left(self) -> int:
        """Shards that may come still."""

    @property
    def waits(self) -> bool:
        """Whether other runs have in hand what is left."""

    def take(self, wanted: int = 1) -> list[Shard]:
        """The next ones, about so many; none where there are none for now."""

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

    @property
    def waits(self) -> bool:
        return False

    def take(self, wanted: int = 1) -> list[Shard]:
        taken, self._shards = self._shards, []
        return taken

    def elsewhere(self) -> list[Shard]:
        return []

    def give_up(self) -> None:
        self._shards = []


class Ahead:
    """Takes from another source in a thread of its own: claiming shards, and looking at what other runs have done, are
    requests to the storage, and nobody shall wait for those but who has no shard."""

    def __init__(self, source: ShardSource) -> None:
        self._source = source
        self._changed = threading.Condition()
        self._ready: deque[Shard] = deque()
        self._elsewhere: deque[Shard] = deque()
        self._left = source.left
        self._wanted = 0  # shards that are to be ready
        self._waits = self._over = False
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._take, daemon=True, name="claims")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.give_up()
        self._thread.join()

    @property
    def left(self) -> int:
        return self._left

    @property
    def waits(self) -> bool:
        return self._waits and not self._ready

    def take(self, wanted: int = 1) -> list[Shard]:
        """Those that are ready. Raises what taking them has raised."""
        if self._error:
            raise self._error
        with self._changed:
            shards = [self._ready.popleft() for _ in range(len(self._ready))]
            self._left -= len(shards)
            self._wanted = max(0, wanted - len(shards))
            self._changed.notify()
        return shards

    def elsewhere(self) -> list[Shard]:
        with self._changed:
            shards = [self._elsewhere.popleft() for _ in range(len(self._elsewhere))]
            self._left -= len(shards)
        return shards

    def give_up(self) -> None:
        with self._changed:
            self._over, self._left = True, 0
            self._ready.clear()
            self._changed.notify()

    def _take(self) -> None:
        try:
            while not self._over and self._source.left:
                with self._changed:
                    self._changed.wait_for(lambda: self._over or self._wanted > len(self._ready))
                self._take_once(self._wanted - len(self._ready))
        except Exception as error:  # the driver raises it
            self._error = error
        if self._over:
            self._source.give_up()

    def _take_once(self, wanted: int) -> None:
        shards = self._source.take(wanted)
        with self._changed:
            if not self._over:
                self._ready += shards
            self._elsewhere += self._source.elsewhere()
            self._waits = not shards and self._source.left > 0
            if not shards:
                self._changed.wait_for(lambda: self._over, _PAUSE)
