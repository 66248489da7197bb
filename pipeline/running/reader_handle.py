"""Processes that read, on the cluster's machines, as the driver sees them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import RayError

from ..errors import one_line
from .placement import Seat
from .reader_processes import ReaderProcess, ReaderSettings
from .readers import LentReader


class ReaderHandle:
    """A process, on the machine of its seat."""

    def __init__(self, number: int, seat: Seat, settings: Any) -> None:
        """settings: a reference to `ReaderSettings`."""
        remote: Any = ray.remote(ReaderProcess)
        options: dict[str, Any] = {"num_cpus": seat.cpus, "max_restarts": 0, "max_task_retries": 0}
        if seat.machine:
            options |= {"label_selector": {"ray.io/node-id": seat.machine}}
        actor = remote.options(**options).remote(settings, max(1, seat.cpus))
        self.seat, self.lent = seat, LentReader(number, seat.machine, actor)
        self.starting: Any = actor.started.remote()  # None once it has started
        self.spare_since: float | None = None  # when it last read for nobody

    def share(self, processes: int) -> None:
        """Tell it how many of them there are; not waited for."""
        self.lent.actor.share.remote(processes)

    def kill(self) -> None:
        with suppress(Exception):
            ray.kill(self.lent.actor)


def send(settings: ReaderSettings) -> Any:
    """Put them where all processes find them."""
    return ray.put(settings)


def see_starts(handles: Sequence[ReaderHandle]) -> Iterator[tuple[ReaderHandle, str | None]]:
    """Those that have started by now, and those that cannot, with the reason."""
    starting = {handle.starting: handle for handle in handles if handle.starting is not None}
    if not starting:
        return
    for reference in ray.wait(list(starting), num_returns=len(starting), timeout=0)[0]:
        handle = starting[reference]
        try:
            ray.get(reference)
        except RayError as error:
            yield handle, one_line(error)
        else:
            handle.starting = None
            yield handle, None
