"""The end of a run, and waits for other runs: workers that have nothing left to do let their machines go."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Protocol, TypeVar

from .backlog import Backlog
from .crew import Crew
from .events import Event, WorkersReleased

_PATIENCE = 10.0  # seconds with nothing to do: it takes longer to start a worker again
_A_SPARE = 16  # workers that are busy, for each that waits to try a late shard, too


class _Worker(Protocol):
    node: str

    @property
    def is_ready(self) -> bool: ...


W = TypeVar("W", bound=_Worker)


class Tail:
    """Looks at the workers of a run between two of the driver's turns."""

    def __init__(self, crew: Crew, backlog: Backlog, need: Callable[[int], None]) -> None:
        """need: told how many workers are needed."""
        self._crew, self._backlog, self._need = crew, backlog, need
        self._idle_since: float | None = None

    def wanted(self, coming: int) -> int:
        """Workers that have something to do, or may get it. coming: shards that may be given out besides the backlog's.

        As long as shards are in hand, a few workers are kept, for those of them that are late or fail.
        """
        busy = sum(bool(handle.shards) for handle in self._crew.handles)
        others = coming + self._backlog.waiting + self._backlog.paused
        if not busy:
            return max(others, self._backlog.tries_left)
        return busy + others + max(-(-busy // _A_SPARE), self._backlog.tries_left)

    def look(self, now: float, coming: int) -> Iterator[Event]:
        """Let those go that have been too many for a while."""
        wanted = self.wanted(coming)
        surplus = len(self._crew.handles) - wanted
        if surplus <= 0:
            self._idle_since = None
            self._need(wanted)
            return
        if self._idle_since is None:
            self._idle_since = now
        if now - self._idle_since >= _PATIENCE:
            idle = [handle for handle in self._crew.handles if not handle.shards]
            busy = {handle.node for handle in self._crew.handles if handle.shards}
            released = first_to_go(idle, busy)[:surplus]
            self._crew.release(released)
            self._need(len(self._crew.handles))
            yield WorkersReleased(len(released))


def first_to_go(idle: Sequence[W], busy: Collection[str]) -> list[W]:
    """Idle workers in the order in which they may go: what has not started; then those on a machine that has another
    one, or on which nobody works, so that whole machines become free. Those that stay are on different machines, as a
    shard that failed on one wants another. busy: machines on which others work."""
    seen: set[str] = set()
    ranked = []
    for worker in idle:
        is_first = worker.node not in seen
        seen.add(worker.node)
        ranked.append(((worker.is_ready, is_first, worker.node in busy), worker))
    return [worker for _, worker in sorted(ranked, key=lambda entry: entry[0])]
