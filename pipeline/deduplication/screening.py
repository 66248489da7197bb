"""Which records of earlier runs are worth fetching: those that may be near a new one, by their sketches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from torch import Tensor

from ...clipmodel.products import products
from ..dataset.output import Output
from . import sorted_files
from .cells import Records
from .compare import as_compared
from .components import Ids
from .sketch import Axes, columns
from .sorted_files import Slice

_TILE = 4096  # vectors, and sketches, whose bounds are held: 64 MiB
_GAP = 1 << 20  # bytes between records that are fetched rather than passed over: what a request takes time for
_RANGE = 8 << 20  # bytes of a request

Chosen = npt.NDArray[np.bool_]


def survivors(own: Records, sketches: Records, axes: Axes, threshold: float) -> Chosen:
    """bool [n]: of each sketch whether its vector may be near a record of `own` that is in the same cell. Whatever
    reaches the threshold is among them."""
    found = np.zeros(len(sketches), np.bool_)
    own_order, cells, own_bounds = _by_cell(own["cell"])
    order, their_cells, their_bounds = _by_cell(sketches["cell"])
    places = np.searchsorted(their_cells, cells)
    for number, place in enumerate(places.tolist()):
        if place == len(their_cells) or their_cells[place] != cells[number]:
            continue
        theirs = order[their_bounds[place] : their_bounds[place + 1]]
        ours = own_order[own_bounds[number] : own_bounds[number + 1]]
        for start in range(0, len(ours), _TILE):
            seekers = axes.seekers(as_compared(own["vector"][ours[start : start + _TILE]]))
            _mark(found, sketches, theirs, seekers, threshold - axes.error)
    return found


def _mark(found: Chosen, sketches: Records, order: Ids, seekers: Tensor, least: float) -> None:
    for start in range(0, len(order), _TILE):
        some = order[start : start + _TILE]
        bounds = products(columns(sketches[some]), seekers)
        found[some] |= (bounds.amax(dim=1) >= least).cpu().numpy()


def _by_cell(cells: npt.NDArray[np.int32]) -> tuple[Ids, npt.NDArray[np.int32], Ids]:
    """Records in order of their cells; the cells; where each begins in that order, and the last ends."""
    order: Ids = np.argsort(cells, kind="stable")
    numbers, begins = np.unique(np.asarray(cells)[order], return_index=True)
    return order, numbers, np.append(begins, len(order)).astype(np.int64)


def fetched(output: Output, slices: Sequence[Slice], found: Chosen, record: np.dtype[np.void]) -> Iterator[Records]:
    """The slices' records that were found, in order."""
    wanted = list(ranges(slices, found, record.itemsize))
    data = sorted_files.read(output, [piece for piece, _ in wanted])
    for (_, chosen), content in zip(wanted, data, strict=True):
        yield np.frombuffer(content, record)[chosen]


def ranges(slices: Sequence[Slice], found: Chosen, size: int) -> Iterator[tuple[Slice, Chosen]]:
    """What to fetch of slices of records of so many bytes, and which of its records were found. Where many were, that
    is whole slices."""
    most, begin = max(1, _RANGE // size), 0
    for name, start, stop in slices:
        end = begin + (stop - start) // size
        places = np.flatnonzero(found[begin:end])
        cuts = np.flatnonzero((np.diff(places) - 1) * size > _GAP) + 1
        for some in np.split(places, cuts) if len(places) else ():
            for first in range(int(some[0]), int(some[-1]) + 1, most):
                after = min(first + most, int(some[-1]) + 1)
                yield (name, start + first * size, start + after * size), found[begin + first : begin + after]
        begin = end
