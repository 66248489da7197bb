"""What people take away from the page: keys, uids, or whole rows as Parquet."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from typing import IO, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ...pipeline.errors import UserError
from ...pipeline.searching.scan import Numbers
from .seeing import Eye, Seen
from .view import DEEPEST, View

Form = Literal["keys", "uids", "parquet"]

MOST = 1_000_000  # rows of one download
_ROWS = 50_000  # read at a time
_PIECE = 1 << 20  # bytes


def forms(eye: Eye) -> list[Form]:
    """What this dataset can give."""
    return ["keys", "uids", "parquet"] if eye.rows.has_any("uid") else ["keys", "parquet"]


def chosen(eye: Eye, view: View, places: Numbers | None) -> Seen:
    """The rows at these places; where there are none, all that the view shows. UserError for too many."""
    if places is not None:
        scores = eye.matches.scores(view.query, view.side)[places] if view.is_search else None
        return Seen(places, scores, len(places))
    seen = eye.seen(view, DEEPEST if view.is_search and view.least_match is None else MOST)
    if seen.total > MOST and len(seen.positions) == MOST:
        raise UserError(
            f"{seen.total:,} rows are too many for a download ({MOST:,}): narrow them by a filter or the threshold, or "
            "use the command that the page shows"
        )
    return seen


def lines(eye: Eye, seen: Seen, column: str) -> Iterator[bytes]:
    """One value a line, in the order seen; rows without one are left out. UserError where the dataset has none."""
    if column not in eye.rows.columns:
        raise UserError(f"this dataset has no {column}s")
    for start in range(0, len(seen.positions), _ROWS):
        values = eye.rows.table(seen.positions[start : start + _ROWS], [column])[column].to_pylist()
        yield "".join(f"{' '.join(str(value).split())}\n" for value in values if value is not None).encode()


def parquet(eye: Eye, seen: Seen) -> Iterator[bytes]:
    """The rows' columns but their embeddings, with `match` where something is searched."""
    with tempfile.TemporaryFile(prefix="clipmill-download-") as file:
        _write(file, eye, seen)
        file.seek(0)
        while piece := file.read(_PIECE):
            yield piece


def _write(file: IO[bytes], eye: Eye, seen: Seen) -> None:
    writer = None
    for start in range(0, max(1, len(seen.positions)), _ROWS):
        table = eye.rows.table(seen.positions[start : start + _ROWS])
        if seen.scores is not None:
            scores = np.asarray(seen.scores[start : start + _ROWS], dtype=np.float32)
            table = table.append_column("match", pa.array(scores, from_pandas=True))
        writer = writer or pq.ParquetWriter(file, table.schema, compression="zstd")
        writer.write_table(table)
    if writer is not None:
        writer.close()
