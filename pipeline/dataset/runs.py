"""Which runs are at work in an output: each has a file there, and is alive while it renews it.

Clocks of two machines are never compared. A run that died on this machine is known at once, one of another machine when
its file has not changed for a while.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from .layout import OWN
from .lock import Patience, is_dead
from .output import Output

RUNS = f"{OWN}/runs"
_AT_ONCE = 16  # files deleted


@dataclass(frozen=True)
class Holder:
    """A run, as its file tells of it."""

    host: str = "another machine"
    pid: int = 0
    since: str = ""  # by the clock of its machine
    beat: int = 0
    ended: bool = False
    waits: bool = False  # for the others to end
    closed: frozenset[str] = frozenset()  # blocks of shards that it has in hand no longer
    seconds: float = 0.0  # at work, by its own clock, when it told this

    @classmethod
    def read(cls, content: bytes) -> Holder:
        """A damaged file's run is unknown, and ends when its file has not changed for a while."""
        try:
            fields = json.loads(content)
            return cls(**{**fields, "closed": frozenset(fields["closed"])})
        except (ValueError, TypeError, KeyError):
            return cls()

    def written(self) -> bytes:
        return json.dumps({**self.__dict__, "closed": sorted(self.closed)}).encode()

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, at work since {self.since}"


@dataclass(frozen=True)
class AtWork:
    """A run, as somebody sees it who looks once."""

    host: str
    pid: int
    since: str  # by the clock of its machine
    seconds: float  # at work
    silent: float | None  # seconds since it last wrote its file, by the store's clock; None where that is not told


def at_work(output: Output) -> list[AtWork]:
    """The runs that have not ended, as far as is known: one that died on another machine stays, and is silent."""
    runs = []
    for name in sorted(output.names(RUNS)):
        file = f"{RUNS}/{name}"
        content, when = output.read(file), output.modified(file)
        if content is None:  # it has ended meanwhile
            continue
        holder = Holder.read(content)
        if not holder.ended and not is_dead(holder.host, holder.pid):
            silent = None if when is None else max(0.0, time.time() - when)
            runs.append(AtWork(holder.host, holder.pid, holder.since, holder.seconds + (silent or 0.0), silent))
    return runs


@dataclass
class _Seen:
    """Another run's file, and when it was seen to change, by this process's monotonic clock."""

    content: bytes
    changed: float
    holder: Holder = field(init=False)

    def __post_init__(self) -> None:
        self.holder = Holder.read(self.content)


class Runs:
    """The runs of an output, as one of them sees them."""

    def __init__(self, output: Output, patience: Patience) -> None:
        self.me = uuid.uuid4().hex
        self._output, self._patience = output, patience
        self.waits = False
        self._since, self._began = time.strftime("%Y-%m-%d %H:%M:%S %Z"), time.monotonic()
        self._closed: set[str] = set()
        self._seen: dict[str, _Seen] = {}
        self._beat = 0
        self._looking = threading.Lock()  # the later look sees what the earlier one saw

    @property
    def own_file(self) -> str:
        return _file(self.me)

    def close(self, block: str) -> None:
        """This run has the block in hand no longer. The others learn it with the next beat."""
        self._closed.add(block)

    def has_in_hand(self, run: str, block: str) -> bool:
        """Whether another run may be working on a block that it claimed."""
        if run not in self._seen:  # it may have begun since the last look; its file was there before its claims
            self.look()
        seen = self._seen.get(run)
        return seen is not None and self._is_alive(seen) and block not in seen.holder.closed

    def alive(self) -> list[Holder]:
        """The others, as they were at the last look."""
        return [seen.holder for seen in list(self._seen.values()) if self._is_alive(seen)]

    def ahead(self) -> list[Holder]:
        """The others that a run waits for which wants to be alone; of two that wait, one goes first."""
        seen = list(self._seen.items())
        return [s.holder for run, s in seen if self._is_alive(s) and (not s.holder.waits or run < self.me)]

    def look(self) -> None:
        """Read the others' files."""
        with self._looking:
            self._look()

    def _look(self) -> None:
        names = {name.removesuffix(".json") for name in self._output.names(RUNS)} - {self.me}
        for run in names:
            content = self._output.read(_file(run))
            seen = self._seen.get(run)
            if content is not None and (seen is None or seen.content != content):
                self._seen[run] = _Seen(content, time.monotonic())
        self._seen = {run: seen for run, seen in self._seen.items() if run in names}

    def beat(self, ended: bool = False) -> None:
        """Write this run's file."""
        self._beat += 1
        where, closed = (socket.gethostname(), os.getpid()), frozenset(self._closed)
        seconds = time.monotonic() - self._began
        me = Holder(*where, self._since, self._beat, ended, self.waits, closed, seconds)
        self._output.write(self.own_file, me.written())

    def forget(self, names: Sequence[str]) -> None:
        """Delete what nobody needs who is alive: these files of the output, and those of all other runs."""
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="forgetting") as pool:
            list(pool.map(self._output.delete, [*names, *map(_file, self._seen)]))

    def _is_alive(self, seen: _Seen) -> bool:
        if seen.holder.ended or is_dead(seen.holder.host, seen.holder.pid):
            return False
        return time.monotonic() - seen.changed <= self._patience.expires


@contextmanager
def renewed(runs: Runs, every: float) -> Iterator[None]:
    """In a thread of its own, this run's file is written and the others' are read, again and again."""
    stopped = threading.Event()

    def renew() -> None:
        while not stopped.wait(every):
            with suppress(Exception):  # the storage hiccups; there is time for another try
                runs.beat()
                runs.look()

    thread = threading.Thread(target=renew, daemon=True, name="beats")
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


def _file(run: str) -> str:
    return f"{RUNS}/{run}.json"
