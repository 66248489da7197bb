"""Workers in processes of their own on the cluster's machines, as the driver sees them."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError

from ..errors import ClipmillError, InfrastructureError, ShardError, one_line
from ..records import Shard, ShardStats
from .lending import MOST_LENT
from .placement import Placement

if TYPE_CHECKING:  # torch takes a second: not before what is missing is refused
    from .readers import LentReader
    from .worker import WorkerFactory

# what a program does wrong, and hardly ever what storage or a machine does to it
OUR_MISTAKES = (TypeError, AttributeError, NameError, AssertionError)
IN_FLIGHT = 2  # shards of a worker that reads by itself: while one ends, the next is read and decoded
_ANSWER = 5.0  # seconds until a process that works says where it is
_NEWS = 200.0  # answers about progress a second, of all workers together, that cost the driver next to nothing
_LEAST = 0.5  # seconds between two answers of one worker
_IDLE = 60.0  # seconds until a worker answers that has nothing to tell
_PACKAGE = __name__.partition(".")[0]


class _Actor:
    """Holds a worker; a few shards at a time, and progress beside them."""

    def __init__(self, factory: WorkerFactory) -> None:
        self._factory = factory
        self._rows = [0, 0]
        self._news = threading.Event()  # rows that the driver has not been told of

    @ray.method(concurrency_group="progress")
    def progress(self, pause: float) -> tuple[int, int]:
        """Rows so far: the answer comes once there are new ones, after that pause at the earliest."""
        time.sleep(pause)
        self._news.wait(_IDLE)
        self._news.clear()
        return self._rows[0], self._rows[1]

    @ray.method(concurrency_group="control")
    def machine(self) -> str:
        return str(ray.get_runtime_context().get_node_id())

    @ray.method(concurrency_group="start")
    def start(self) -> float:
        """Seconds that making the worker took. Apart from `__init__`, so that its errors reach the driver as they
        are."""
        began = time.monotonic()
        self._worker = self._factory()
        return time.monotonic() - began

    @ray.method(concurrency_group="work")
    def embed(self, shard: Shard) -> ShardStats:
        try:
            return self._worker.embed(shard, self._add)
        except Exception as error:
            if message := bug(error):  # no second try would do better
                raise ShardError(f"{shard.url}: {message}") from error
            raise

    @ray.method(concurrency_group="control")
    def lend(self, readers: Sequence[LentReader]) -> None:
        self._worker.lend(readers)

    def _add(self, embedded: int, failed: int) -> None:
        self._rows[0] += embedded
        self._rows[1] += failed
        self._news.set()


class WorkerDied(InfrastructureError):
    """A worker's process has ended, or its machine. `preempted`: Ray knows that the machine was taken away."""

    def __init__(self, error: RayActorError) -> None:
        super().__init__(one_line(error))
        self.preempted = error.preempted


class StartFailed(Exception):
    """A worker could not start on its machine; `error` says what for."""

    def __init__(self, error: ClipmillError) -> None:
        super().__init__(one_line(error))
        self.error = error


class WorkerHandle:
    """A worker as the driver sees it."""

    def __init__(self, factory: Any, placement: Placement, avoided: Collection[str] = ()) -> None:
        """factory: a reference to the WorkerFactory. avoided: machines that it must not be on."""
        self._actor = _make_actor(factory, placement, avoided)
        self._machine = self._actor.machine.remote()
        self.starting: Any = self._actor.start.remote()  # None once it has started
        self.node = ""  # that it is on, known then
        self.start_up: dict[str, float] = {}  # seconds, known then
        self._began = time.monotonic()
        self.shards: dict[Any, Shard] = {}  # in work, by the references of their results
        self._rows = (0, 0)
        self._progress: Any = None  # the reference of the worker's next answer

    @property
    def is_ready(self) -> bool:
        return self.starting is None

    def see_start(self) -> WorkerDied | StartFailed | None:
        """Note whether it has started by now, or why it did not."""
        if self.is_ready or not ray.wait([self.starting], timeout=0)[0]:
            return None
        with suppress(RayError):  # its process may be gone
            self.node = ray.get(self._machine, timeout=_ANSWER)
        try:
            making = ray.get(self.starting)
            self.starting = None
            self.start_up = {"worker_process": time.monotonic() - self._began - making, "worker_models": making}
        except RayTaskError as error:
            return StartFailed(own_error(error))
        except RayActorError as error:
            if error.actor_init_failed:  # it has no clipmill, say
                return StartFailed(InfrastructureError(f"a worker cannot be made: {one_line(error)}"))
            return WorkerDied(error)
        return None

    def give(self, shard: Shard) -> None:
        self.shards[self._actor.embed.remote(shard)] = shard

    def next_answer(self, pause: float) -> Any:
        """The reference of the worker's next answer about its progress."""
        if self._progress is None:
            self._progress = self._actor.progress.remote(pause)
        return self._progress

    def lend(self, readers: Sequence[LentReader]) -> None:
        """Have these processes read for it from now on, and no others; not waited for."""
        self._actor.lend.remote(readers)

    def new_rows(self) -> tuple[int, int]:
        """Embedded and failed rows, from the answer before to this one, which is there."""
        answer, self._progress, before = self._progress, None, self._rows
        with suppress(RayError):
            self._rows = ray.get(answer)
        return self._rows[0] - before[0], self._rows[1] - before[1]

    def kill(self) -> list[Shard]:
        """End its process; the shards that it was working on."""
        with suppress(Exception):
            ray.kill(self._actor)
        shards = list(self.shards.values())
        self.shards.clear()
        return shards


def most_in_flight(placement: Placement) -> int:
    """Shards that a worker may ever have at once."""
    return MOST_LENT + 1 if placement.readers else IN_FLIGHT


def _make_actor(factory: Any, placement: Placement, avoided: Collection[str]) -> Any:
    # Ray takes the groups here only, and not among the options
    make: Any = ray.remote  # its types do not know of groups
    groups = {"start": 1, "work": most_in_flight(placement), "control": 1, "progress": 1}
    remote = make(concurrency_groups=groups)
    return (
        remote(_Actor)
        .options(
            num_cpus=placement.cpus,
            num_gpus=placement.gpus,
            max_restarts=0,  # retries are ours: Ray would restart for ever what cannot start
            max_task_retries=0,
            label_selector={"ray.io/node-id": f"!in({','.join(avoided)})"} if avoided else None,
        )
        .remote(factory)
    )


def send(factory: WorkerFactory) -> Any:
    """Put it where all workers find it."""
    return ray.put(factory)


def settled(
    handles: Sequence[WorkerHandle], seconds: float
) -> Iterator[tuple[WorkerHandle, Shard, ShardStats | Exception]]:
    """What became of shards in hand; waits so long for the first of them to end. After WorkerDied, the handle still
    holds all of its shards."""
    out = {ref: handle for handle in handles for ref in handle.shards}
    if not out:
        starting = [handle.starting for handle in handles if not handle.is_ready]
        if starting:
            ray.wait(starting, timeout=seconds)
        else:
            time.sleep(seconds / 3)  # until a pause between two attempts is over
        return
    waiting = list(out)
    done, _ = ray.wait(waiting, num_returns=len(waiting), timeout=0)
    if not done:
        done, _ = ray.wait(waiting, timeout=seconds)
    for ref, outcome in zip(done, _outcomes(done), strict=True):
        handle = out[ref]
        if ref not in handle.shards:  # its worker was replaced meanwhile
            continue
        if isinstance(outcome, WorkerDied):
            yield handle, handle.shards[ref], outcome
        else:
            yield handle, handle.shards.pop(ref), outcome


def _outcomes(refs: Sequence[Any]) -> Sequence[ShardStats | Exception]:
    """Of calls that have ended. All at once takes half the time; which of them have failed must be asked one by one."""
    try:
        outcomes: list[ShardStats | Exception] = ray.get(list(refs))
    except RayError:
        return [_outcome(ref) for ref in refs]
    return outcomes


def _outcome(ref: Any) -> ShardStats | Exception:
    try:
        stats: ShardStats = ray.get(ref)
    except RayTaskError as error:
        return own_error(error)
    except RayActorError as error:
        return WorkerDied(error)
    return stats


def news(handles: Sequence[WorkerHandle]) -> Iterator[tuple[WorkerHandle, int, int]]:
    """Workers that have told of rows since the last call: embedded ones, failed ones. Waits for none.

    Workers answer when they have something to tell, the less often the more of them there are.
    """
    pause = max(_LEAST, len(handles) / _NEWS)
    answers = {handle.next_answer(pause): handle for handle in handles if handle.is_ready}
    if answers:
        for answer in ray.wait(list(answers), num_returns=len(answers), timeout=0)[0]:
            embedded, failed = answers[answer].new_rows()
            if embedded or failed:
                yield answers[answer], embedded, failed


def own_error(error: RayTaskError) -> ClipmillError:
    """What the worker raised. Ours are for people to read; others are failures of the infrastructure."""
    cause = error.cause if isinstance(error.cause, Exception) else None
    if isinstance(cause, ClipmillError):
        return cause
    if cause is None:
        return InfrastructureError(str(error).strip().splitlines()[-1])
    return InfrastructureError(f"{type(cause).__name__}: {one_line(cause)}")


def bug(error: Exception) -> str | None:
    """`AttributeError: … (a bug in clipmill.pipeline.dataset.part, line 12)` for a mistake in our own lines. None for
    all other errors, and for one raised inside a library: that may pass by itself."""
    frames = list(traceback.walk_tb(error.__traceback__))
    if not isinstance(error, OUR_MISTAKES) or not frames:
        return None
    frame, line = frames[-1]
    module = str(frame.f_globals.get("__name__"))
    if module.partition(".")[0] != _PACKAGE:
        return None
    return f"{type(error).__name__}: {' '.join(str(error).split())} (a bug in {module}, line {line})"
