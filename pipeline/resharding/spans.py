"""Which bytes of a tar hold some of its samples, and whether to request only these or the whole tar."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..inputs.tario import BLOCK

_MOST = 16 << 20  # bytes of a request for several samples: some requests are held at once


class Span(NamedTuple):
    """Bytes from `start` to before `stop`."""

    start: int
    stop: int


@dataclass(frozen=True)
class Request:
    """Bytes that are read together, and the rows whose samples are in them."""

    span: Span
    rows: tuple[int, ...]


@dataclass(frozen=True)
class Pace:
    """The speed of a storage."""

    latency: float  # seconds until an answer begins, divided by the number of concurrent requests
    bandwidth: float  # bytes a second

    def seconds(self, span: Span) -> float:
        return self.latency + (span.stop - span.start) / self.bandwidth


DISK = Pace(1e-4, 1e9)
NETWORK = Pace(30e-3 / 8, 100e6)


def spans_of(
    keys: Sequence[str], offsets: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64], rows: Sequence[int], end: int
) -> list[Span] | None:
    """The bytes that hold the samples of some rows, in a tar of `end` bytes. keys, offsets and sizes: of all rows; the
    last two are those of the images, offset -1 where there is none.

    A span reaches from the end of the last image before the row's own to the beginning of the first image after it: it
    holds all files of the sample, in any order. None where another sample has the same key, or one that differs only
    after the first dot, or where images are not in order: then only reading from the beginning tells which files belong
    to which.
    """
    has = offsets >= 0
    count = len(keys)
    positions = np.arange(count)
    before = np.concatenate([[-1], np.maximum.accumulate(np.where(has, positions, -1))[:-1]])
    after = np.concatenate([np.minimum.accumulate(np.where(has, positions, count)[::-1])[::-1][1:], [count]])
    groups = [_group(key) for key in keys]
    times = Counter(groups)
    if any(times[groups[row]] > 1 for row in rows) or np.any(np.diff(offsets[has]) <= 0):
        return None
    spans = []
    for row in rows:
        first, last = int(before[row]), int(after[row])
        start = int(offsets[first] + sizes[first]) if first >= 0 else 0
        spans.append(Span(start + -start % BLOCK, int(offsets[last]) if last < count else end))
    return spans


def _group(key: str) -> str:
    """The key that files have in the tar; where these are several samples, more is added after a dot."""
    folder, slash, base = key.rpartition("/")
    return folder + slash + base.partition(".")[0]


def worth_asking_for(rows: Sequence[int], spans: Sequence[Span], end: int, pace: Pace) -> list[Request] | None:
    """The requests that fetch the spans of some rows, both ascending, from a shard of `end` bytes; None where reading
    all of it is no slower. Bytes between two spans are read too where that takes no longer than another request.
    """
    requests: list[Request] = []
    for row, span in zip(rows, spans, strict=True):
        last = requests[-1] if requests else None
        if last and _belongs(span, last.span, pace):
            requests[-1] = Request(Span(last.span.start, max(last.span.stop, span.stop)), (*last.rows, row))
        else:
            requests.append(Request(span, (row,)))
    seconds = sum(pace.seconds(request.span) for request in requests)
    return requests if seconds < pace.seconds(Span(0, end)) else None


def _belongs(span: Span, last: Span, pace: Pace) -> bool:
    return (span.start - last.stop) / pace.bandwidth <= pace.latency and span.stop - last.start <= _MOST
