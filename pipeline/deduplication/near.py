"""Near duplicates: vectors of one cell whose cosine reaches a threshold (SemDeDup, Abbas et al. 2023, section 3).

Borders between cells separate some pairs, so each vector is put into several of its nearest cells. Of pairs with a
cosine of 0.955 among 100,000 vectors in 158 cells, the following shares were detected, from vectors without
structure to embeddings: in one cell 63-84 %, two 93-99 %, three 98.8-99.98 %, four 99.8-100 %.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .cells import CellFiles, Offsets, Records
from .components import Ids, connect, spanning
from .kmeans import device, unit

_ROWS = 1 << 16  # records that a piece of work holds: 64 MiB of float16[512], twice that where a cell has more
_TILE = 2048  # vectors a side of the part of the similarity matrix that is held: 16 MiB
_PAIRS = 1 << 20  # held before they are connected


@dataclass(frozen=True)
class Piece:
    """A piece of work: cells that follow each other; or of one large cell, a stretch of its rows against themselves and
    all after them."""

    number: int
    offsets: Offsets  # [files, cells + 1], of these cells alone
    start: int | None = None  # of the stretch; None for whole cells


def pieces(offsets: Offsets) -> Iterator[Piece]:
    """All pieces of work. offsets: [files, cells + 1], as `CellFiles.open` returns them."""
    number = 0
    for first, stop, size in _runs(np.diff(offsets).sum(axis=0, dtype=np.int64).tolist()):
        part = offsets[:, first : stop + 1]
        for start in range(0, size, _ROWS) if size > _ROWS else (None,):
            yield Piece(number, part, start)
            number += 1


def _runs(sizes: list[int]) -> Iterator[tuple[int, int, int]]:
    """First cell, last cell + 1 and rows of runs of at most `_ROWS` rows; a cell of more is a run of its own."""
    first = rows = 0
    for cell, size in enumerate(sizes):
        if rows + size > _ROWS and cell > first:
            yield first, cell, rows
            first, rows = cell, 0
        rows += size
    if sizes:
        yield first, len(sizes), rows


@dataclass(frozen=True)
class ComparePiece:
    """Finds a piece's pairs and commits them as a file of their own."""

    files: CellFiles
    threshold: float
    prefix: str  # of the files' names

    def name_of(self, piece: Piece) -> str:
        return f"{self.prefix}near-{piece.number:06d}.npy"

    def __call__(self, piece: Piece) -> None:
        file = io.BytesIO()
        np.save(file, near_pairs(self.files, self.threshold, piece))
        self.files.output.write(self.name_of(piece), file.getvalue())

    def pairs_of(self, piece: Piece) -> Ids:
        """The pairs that were committed: int64 [k, 2]."""
        pairs: Ids = np.load(io.BytesIO(self.files.output.read(self.name_of(piece)) or b""))
        return pairs


def near_pairs(files: CellFiles, threshold: float, piece: Piece) -> Ids:
    """int64 [k, 2]: the fewest pairs of ids that connect all whose cosine reaches the threshold."""
    pairs = [np.empty((0, 2), np.int64)]
    if piece.start is None:
        for cell in files.cells(piece.offsets):
            first = _connected(np.arange(len(cell)), cell, cell, 0, threshold)
            pairs.append(cell["id"][spanning(first)])
        return np.concatenate(pairs)
    rows = int(np.diff(piece.offsets).sum())
    stretch = files.rows(piece.offsets, piece.start, piece.start + _ROWS)
    first, ids = np.arange(rows - piece.start), []
    for start in range(piece.start, rows, _ROWS):
        others = files.rows(piece.offsets, start, start + _ROWS)
        first = _connected(first, stretch, others, start - piece.start, threshold)
        ids.append(others["id"].copy())
    return np.concatenate(ids)[spanning(first)]


def _connected(first: Ids, left: Records, right: Records, offset: int, threshold: float) -> Ids:
    """`first`, see `connect`, with all pairs of `left`, which are its things 0 and on, and `right`, which are its
    things `offset` and on."""
    waiting: list[Ids] = []
    for i in range(0, len(left), _TILE):
        left_tile = _tile(left, i)
        for j in range(0, len(right), _TILE):
            if j + _TILE + offset <= i:
                continue  # seen from the other side
            pairs = torch.nonzero(left_tile @ _tile(right, j).T >= threshold).cpu().numpy()
            pairs += np.array([i, j + offset])
            pairs = pairs[pairs[:, 0] < pairs[:, 1]]
            waiting.append(pairs[first[pairs[:, 0]] != first[pairs[:, 1]]])
            if sum(map(len, waiting)) > _PAIRS:
                first, waiting = connect(first, np.concatenate(waiting)), []
    return connect(first, np.concatenate(waiting)) if waiting else first


def _tile(records: Records, start: int) -> Tensor:
    """float32 [up to _TILE, dim], of length one: stored in fewer bits, they are not quite."""
    return torch.from_numpy(unit(records["vector"][start : start + _TILE].astype(np.float32))).to(device())
