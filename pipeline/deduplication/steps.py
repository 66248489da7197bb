"""The stages of removing duplicates, each of them tasks over a cluster whose results are files: what is there is not
done again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any, TypeVar

import numpy as np

from ..dataset.layout import OWN, part_path
from ..dataset.output import Output
from ..dataset.subset import Funnel
from ..running.scatter import scatter
from ..running.stages import OnStage, counted
from . import kmeans, sorted_files
from .against import FindRun, Found
from .centroids import CENTROIDS, TrainCells
from .contents import BUCKETS, Counts, FindCopies, ReadContents
from .members import ChooseBest, ReadMembers, ranges, write_groups
from .near import ComparePiece, Piece, pieces
from .parts import AssignRun, Candidates, WriteRun
from .request import Request
from .sorted_files import Ranges, Slice
from .stars import Graph
from .state import SCRATCH, Numbering, State

T = TypeVar("T")

FAILED, EXACT, NEAR = "failed", "exact duplicate", "near duplicate"  # reasons to drop
EQUAL_THERE, NEAR_THERE = "equal to a row of --against", "near a row of --against"

_AT_ONCE = 16  # files deleted
_LIGHT = 4  # items of a core at once, where each is little more than requests
_GPU = 0.25  # of one, for a comparison: while it computes, others read

# Of comparisons of few new rows with many earlier ones' sketches: these wait for many small ranges.
_SHARE = 8  # times the new rows, at least, are the earlier ones: then sketches are most of what is read
_SKETCHES = 256 << 20  # bytes of a range
_SCREENED = 0.5  # cores


@dataclass(frozen=True)
class Stages:
    """Of one request. scratch: prefix of its own files; files: what was there when it began, by name, and how many
    bytes each has."""

    request: Request
    state: State
    numbering: Numbering
    scratch: str
    files: dict[str, int]
    on_stage: OnStage

    @classmethod
    def of(cls, request: Request, on_stage: OnStage) -> Stages:
        output, job = request.output, request.job
        state = State.begin(output, request.dataset, request.kept_settings, grows=job.near and job.cells is None)
        scratch = state.scratch(request.dataset.version)
        clear(output, but=scratch)
        there = {f"{OWN}/{name}": size for name, size in output.sizes(OWN).items()}
        files = {**there, **state.files()}
        return cls(request, state, state.numbering(request.dataset), scratch, files, on_stage)

    @cached_property
    def done(self) -> set[str]:
        """The objects that were whole when it began."""
        return sorted_files.names_done(self.files)

    def do(
        self,
        function: Callable[[T], Any],
        items: Iterable[T],
        total: int,
        name: tuple[str, str],
        gpus: float = 0,
        cpus: float = 1,
    ) -> None:
        """All items, over the cluster. name: of the stage, and of what is counted. cpus and gpus: as in `scatter`."""
        tasks = scatter(function, items, self.request.job.address, cpus, gpus)
        with kmeans.cores_for(total):
            for _ in counted(tasks, *name, total, self.on_stage):
                pass

    def do_light(self, function: Callable[[T], Any], items: Iterable[T], total: int, name: tuple[str, str]) -> None:
        """The same where an item is a few small requests: several at once on each core, against latency."""
        tasks = scatter(AtOnce(function), _together(items, _LIGHT), self.request.job.address)
        for _ in counted(tasks, *name, total, self.on_stage, weigh=lambda task: len(task[0])):
            pass

    def do_ranges(self, function: FindCopies | ChooseBest, ranges: Ranges, stage: str) -> None:
        """The ranges that are not done yet."""

        def left() -> Iterator[tuple[Slice, ...]]:  # one at a time: each names a range of every run
            return (slices for slices in ranges.all() if function.name_of(slices) not in self.done)

        self.do(function, left(), sum(1 for _ in left()), (stage, "ranges"))

    def by_run(self, names: Sequence[str]) -> Ranges:
        return Ranges.over(self.request.output, names, np.arange(self.numbering.runs + 1))

    def find_there(self) -> Found | None:
        """Rows that other datasets have."""
        request, job = self.request, self.request.job
        if not request.references:
            return None
        found = Found(request.output)
        columns = (request.content if job.exact else None, request.vectors if job.near else None)
        find = FindRun(request.dataset, *columns, request.references, job.threshold, request.within, found)
        todo = [run for run in self.state.runs if found.name_of(run) not in self.files]
        self.do(find, todo, len(todo), ("comparing with other datasets", "runs"), _GPU if job.near else 0)
        return found

    def read_contents(self, there: Found | None) -> Ranges:
        """Keys of the rows that are embedded, and all counts."""
        request = self.request
        column = request.content if request.job.exact and not request.job.only_against else None
        read = ReadContents(request.dataset, column, request.output, request.within, there)
        todo = [run for run in self.state.runs if read.name_of(run) not in self.done]
        self.do(read, todo, len(todo), ("reading", "runs"))
        return Ranges.fitting(request.output, [read.name_of(run) for run in self.state.runs], BUCKETS)

    def find_copies(self, contents: Ranges) -> tuple[list[Slice], Ranges]:
        """Pairs of equal rows, and the same by run."""
        find = FindCopies(self.request.output, self.scratch, self.numbering)
        self.do_ranges(find, contents, "finding equal rows")
        by_run = self.by_run([*map(find.name_of, contents.all())])
        return by_run.whole(), by_run

    def find_near(self, there: Found | None, copies: Ranges, count: int) -> list[Slice]:
        """Pairs of near rows. count: of rows to be compared."""
        request, job, state, output = self.request, self.request.job, self.state, self.request.output
        candidates = Candidates(request.dataset, request.vectors, output, request.within, there)
        train = TrainCells(candidates, copies, count, job.cells)
        if CENTROIDS not in self.files:
            self.do(train, [state.runs], 1, ("training cells", "tasks"), 1)
        centroids, axes = train.read(), train.read_axes()
        assign = AssignRun(candidates, centroids, job.probes, axes)
        todo = [run for run in state.runs if assign.name_of(run) not in self.done]
        items = ((run, copies.of(run.number)) for run in todo)
        self.do(assign, items, len(todo), ("assigning to cells", "runs"), _GPU)
        whole = sorted_files.names_done(state.files())
        for generation in range(len(state.sizes)):
            compare = ComparePiece(output, candidates.record, job.threshold, generation, axes)
            if compare.end not in self.files:
                self._compare(compare, len(centroids), whole)
        return [(name, 0, size) for name, size in state.files().items() if size and ComparePiece.wrote(name)]

    def _compare(self, compare: ComparePiece, cells: int, whole: set[str]) -> None:
        """whole: the objects that are."""
        output, size = self.request.output, compare.record.itemsize
        own = [AssignRun.name_of(run) for run in self.state.of(compare.generation)]
        before = [run for run in self.state.runs if run.generation < compare.generation]
        earlier = [AssignRun.name_of(run) for run in before]
        beside = [AssignRun.sketches_of(run) for run in before]
        axes = compare.axes if beside and whole.issuperset(beside) else None  # other versions of clipmill write none
        few = _SHARE * self.state.sizes[compare.generation] <= sum(self.state.sizes[: compare.generation])
        held, cores = (_SKETCHES, _SCREENED) if axes and few else (sorted_files.IN_MEMORY, 1.0)
        both = Ranges.fitting(output, own + (beside if axes else earlier), cells, held)
        most = sorted_files.fair_range(both.bytes, len(both.names), held)
        new, old = both.divided(len(own))
        sketches = old if axes else None
        if axes:
            old = old.beside(earlier, axes.record.itemsize, size)

        def todo() -> Iterator[Piece]:  # one at a time: each names a range of every run
            every = pieces(new, old, most, size, sketches)
            return (piece for piece in every if compare.name_of(piece) not in self.files)

        self.do(compare, todo(), sum(1 for _ in todo()), ("comparing in cells", "pieces"), _GPU, cores)
        output.write(compare.end, b"")

    def choose(self, pairs: Sequence[Slice]) -> tuple[Ranges, int]:
        """Groups of all rows that pairs connect, written down; the rows that go, by run, and their number."""
        request, output, scratch = self.request, self.request.output, self.scratch
        pairs = sorted(pairs)
        graph = Graph(output, f"{scratch}{sorted_files.digest_of(pairs)}-", self.numbering, request.job.address)
        members = graph.members(pairs, self.done)
        shards = tuple(request.dataset.shards())
        read = ReadMembers(request.dataset, request.keep_by, output, scratch, self.numbering, shards)
        todo = [run for run in self.state.runs if read.name_of(run) not in self.done]
        items = ((run, members.of(run.number)) for run in todo)
        self.do_light(read, items, len(todo), ("reading duplicates", "runs"))
        names = [read.name_of(run) for run in self.state.runs]
        grouped = Ranges.fitting(output, names, ranges(request.dataset))
        best = ChooseBest(output, scratch, self.numbering)
        self.do_ranges(best, grouped, "choosing")
        dropped = self.by_run([*map(best.name_of, grouped.all())])
        return dropped, write_groups(best, grouped, dropped)

    def write(self, there: Found | None, dropped: Ranges) -> None:
        request, runs = self.request, self.state.runs
        write = WriteRun(request.dataset, request.output, request.within, there)
        items = ((run, dropped.of(run.number)) for run in runs)
        self.do_light(write, items, len(runs), ("writing", "runs"))
        for part in request.output.parts().difference(request.dataset.parts):
            request.output.delete(part_path(part))  # of shards that are no longer in the dataset


@dataclass(frozen=True)
class AtOnce:
    """A function of several items."""

    function: Callable[[Any], Any]

    def __call__(self, items: Sequence[Any]) -> None:
        with ThreadPoolExecutor(len(items), thread_name_prefix="light") as pool:
            list(pool.map(self.function, items))


def _together(items: Iterable[T], most: int) -> Iterator[tuple[T, ...]]:
    left = iter(items)
    while some := tuple(islice(left, most)):
        yield some


def funnel_of(counts: Counts, equal: int, near: int, against: bool) -> Funnel:
    """equal, near: rows that go for duplicates. against: whether rows were compared with other datasets', too."""
    dropped = {FAILED: counts.failed}
    if against:
        dropped |= {EQUAL_THERE: counts.equal_there, NEAR_THERE: counts.near_there}
    dropped |= {EXACT: equal, NEAR: near}
    return Funnel(counts.rows, dropped, counts.rows - sum(dropped.values()))


def clear(output: Output, but: str | None = None) -> None:
    """Delete the files of runs into this output, apart from those whose names begin with `but`."""
    names = [f"{OWN}/{name}" for name in output.names(OWN)]
    names = [name for name in names if name.startswith(SCRATCH) and not (but and name.startswith(but))]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(output.delete, names))
