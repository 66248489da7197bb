"""One scheduled run at a time: a lock in the output that expires by itself when its holder dies.

It saves work and is not what makes runs exact: two drivers on one output are safe without it.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ..errors import ClipmillError
from ..storage.processes import is_alive
from .layout import OWN
from .output import Output

LOCK = f"{OWN}/lock.json"


class LockedError(ClipmillError):
    """Another run is writing there. This is not a failure: the next scheduled run finds what it has done."""

    exit_code = 0


@dataclass(frozen=True)
class Patience:
    """A lock expires when it has not been renewed for `expires` seconds; clocks of two machines are never compared."""

    renew: float = 5.0  # seconds between two renewals
    expires: float = 30.0
    look: float = 1.0  # seconds between two looks at somebody else's lock


@contextmanager
def held(output: Output, patience: Patience = Patience()) -> Iterator[None]:  # frozen
    """Hold the output's lock. LockedError where a run holds it that is alive. The lock of a run that died is replaced:
    at once where it died on this machine, else when the lock has expired."""
    me = uuid.uuid4().hex
    if not output.write_new(LOCK, _content(me, 0)):
        _wait_for_expiry(output, me, patience)
        output.write(LOCK, _content(me, 0))
    stopped = threading.Event()
    renewing = threading.Thread(target=_renew, args=(output, me, patience.renew, stopped), daemon=True, name="lock")
    renewing.start()
    try:
        yield
    finally:
        stopped.set()
        renewing.join()
        if _owner(output) == me:
            output.delete(LOCK)


def _wait_for_expiry(output: Output, me: str, patience: Patience) -> None:
    seen = output.read(LOCK)
    end = time.monotonic() + patience.expires
    while seen is not None and not is_dead(_field(seen, "host"), _field(seen, "pid")) and _field(seen, "owner") != me:
        if time.monotonic() > end:
            return
        time.sleep(patience.look)
        now = output.read(LOCK)
        if now is not None and now != seen:
            host, pid = _field(now, "host"), _field(now, "pid")
            raise LockedError(f"{output.url}: another run is at work there (process {pid} on {host}); nothing done")
        seen = now


def _renew(output: Output, me: str, every: float, stopped: threading.Event) -> None:
    beat = 0
    while not stopped.wait(every):
        beat += 1
        try:
            if _owner(output) != me:
                return  # another run took this one for dead; both go on, and do no harm
            output.write(LOCK, _content(me, beat))
        except Exception:  # the storage hiccups; there is time for another try
            continue


def _content(owner: str, beat: int) -> bytes:
    return json.dumps({"owner": owner, "host": socket.gethostname(), "pid": os.getpid(), "beat": beat}).encode()


def _owner(output: Output) -> object:
    content = output.read(LOCK)
    return None if content is None else _field(content, "owner")


def _field(content: bytes, name: str) -> object:
    """None where the lock is damaged: then nobody holds it."""
    try:
        return json.loads(content)[name]
    except (ValueError, KeyError, TypeError):
        return None


def is_dead(host: object, pid: object) -> bool:
    """Whether that was a process of this machine that has ended."""
    if host != socket.gethostname() or not isinstance(pid, int):
        return False
    return not is_alive(pid)
