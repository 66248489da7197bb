"""Making the narrow table of a dataset, and making it grow, over the cluster. See `dataset/narrow.py`."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress

from ..dataset.dataset import Dataset
from ..dataset.narrow import NARROW, PLACE, fitting, narrow_files, with_files
from ..dataset.narrow_file import NarrowFile
from ..dataset.output import Output
from .narrow_making import TROUBLE, MakeFile, MergeFiles, Run
from .scatter import scatter
from .stages import OnStage, counted

# A dataset that has less than either gets no table: reading its parts costs little.
MANY_PARTS = 16
MANY_BYTES = 8 << 30

_LEAST, _MOST, _FILES = 256 << 20, 4 << 30, 16  # bytes of the parts that become a file, and how many files, about
_LARGE, _LARGE_SHARE = 256 << 20, 1 / 32  # bytes, and share of all rows, from which on a file is not merged
_MERGED, _GROWTH = 8, 4  # so many small files become one, of those alike but for this factor
_PROBE = f"{NARROW}.probe"
_GRACE = 3600.0  # seconds for which a file stays that is not needed any more: somebody may be reading it


def with_narrow_table(dataset: Dataset, address: str, on_stage: OnStage) -> Dataset:
    """The same rows without embeddings, as `narrow.narrowed` has them. The narrow table is made before, or made to
    grow, where the dataset is large enough. Where it cannot be written the parts are read."""
    listed = dataset.output.sizes(NARROW)
    fits = narrow_files(dataset, listed)
    in_table = {part for file in fits for part in file.parts}
    missing = [number for number, part in enumerate(dataset.parts) if part not in in_table]
    is_large = len(dataset.parts) >= MANY_PARTS or sum(dataset.sizes) >= MANY_BYTES
    if missing and is_large and PLACE not in dataset.schema.names and _can_write(dataset.output):
        unused = listed.keys() - {file.name for file in fits}
        fits = fitting(dataset, [*fits, *_made(dataset, missing, address, on_stage)])
        fits = fitting(dataset, [*fits, *_merged(dataset, fits, address)])
        _clear(dataset.output, unused - {file.name for file in fits})
    return with_files(dataset, fits)


def _can_write(output: Output) -> bool:
    try:
        output.write(_PROBE, b"")
        output.delete(_PROBE)
    except TROUBLE:
        return False
    return True


def _made(dataset: Dataset, missing: Sequence[int], address: str, on_stage: OnStage) -> list[NarrowFile]:
    spread = scatter(MakeFile(dataset.output, dataset.schema, dataset.forgotten), runs_of(dataset, missing), address)
    name = "making the narrow table"
    told = counted(spread, name, "parts", len(missing), on_stage, weigh=lambda done: len(done[0].parts))
    return [file for _, file in told if file is not None]


def runs_of(dataset: Dataset, numbers: Sequence[int]) -> Iterator[Run]:
    """Parts, by their numbers, in runs of about as many bytes, each of which becomes a file."""
    most = min(_MOST, max(_LEAST, sum(dataset.sizes[number] for number in numbers) // _FILES))
    run, bytes_ = list[int](), 0
    for number in numbers:
        if run and bytes_ + dataset.sizes[number] > most:
            yield _run(dataset, run)
            run, bytes_ = [], 0
        run.append(number)
        bytes_ += dataset.sizes[number]
    if run:
        yield _run(dataset, run)


def _run(dataset: Dataset, numbers: Iterable[int]) -> Run:
    chosen = list(numbers)
    return Run(
        tuple(dataset.parts[n] for n in chosen),
        tuple(dataset.sizes[n] for n in chosen),
        tuple(dataset.stamps[n] for n in chosen),
    )


def _merged(dataset: Dataset, files: Sequence[NarrowFile], address: str) -> list[NarrowFile]:
    numbers = {part: number for number, part in enumerate(dataset.parts)}
    merges = [
        (_run(dataset, sorted(numbers[part] for file in group for part in file.parts)), group)
        for group in groups_to_merge(files)
    ]
    spread = scatter(MergeFiles(dataset.output, dataset.schema), merges, address) if merges else ()
    return [file for _, file in spread if file is not None]


def groups_to_merge(files: Sequence[NarrowFile]) -> list[list[NarrowFile]]:
    """Small files that become one, where there are many of about a size: so a row is written again a few times at
    most, however often its dataset grows."""
    rows = sum(file.rows for file in files)
    alike: dict[int, list[NarrowFile]] = {}
    for file in files:
        if file.bytes < _LARGE and file.rows < rows * _LARGE_SHARE:
            alike.setdefault(int(math.log(file.bytes, _GROWTH)), []).append(file)
    return [group for group in alike.values() if len(group) >= _MERGED]


def _clear(output: Output, unused: Iterable[str]) -> None:
    """Delete what was of no use any more when this run began, if it is old."""
    for name in unused:
        with suppress(*TROUBLE):
            modified = output.modified(f"{NARROW}/{name}")
            if modified is not None and time.time() - modified > _GRACE:
                output.delete(f"{NARROW}/{name}")
