"""One shard: stream, decode, encode, score, write, verify, commit. No Ray in it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ...clipmodel.flops import Flops
from ..dataset import footer
from ..dataset.output import Output
from ..dataset.part import PartLayout, PartWriter, verify
from ..records import Shard, ShardStats, Vector
from ..storage.ahead import ahead
from .clock import Clock, WorkerClock
from .decode import reason_of
from .encoder import Encoder
from .shard_reader import DecodedRow, ShardReader

_WINDOW = 4096  # rows a row group; captions of a window are sorted by length

OnRows = Callable[[int, int], None]  # newly embedded rows, newly failed ones


@dataclass(frozen=True)
class ShardTools:
    """What a worker holds for all its shards."""

    encoder: Encoder[Any, Any]  # of what its reader decodes
    reader: ShardReader
    layout: PartLayout
    provenance: Mapping[str, str]  # for every part's footer
    images_a_batch: int = 32
    replace: bool = False  # parts that are there already
    flops: tuple[Flops, ...] = ()  # of the models
    peak: float = 0.0  # FLOP a second of the device; 0 where it is not known
    clock: WorkerClock = field(default_factory=WorkerClock)


class Embedded(NamedTuple):
    """A window's rows with their embeddings, None where there is none."""

    rows: list[DecodedRow]
    images: list[Vector | None]
    texts: list[Vector | None]


def embed_shard(shard: Shard, tools: ShardTools, output: Output, on_rows: OnRows = lambda *_: None) -> ShardStats:
    """Embed every sample of a shard and commit its part; what could not be embedded is a row with a reason.

    Raises ShardError for a shard that cannot be read at all, OSError for whatever the storage does. Nothing is
    visible of a shard that did not get to the end.
    """
    clock, stats = Clock(tools.clock), ShardStats(shard.url, peak=tools.peak)
    with clock.stage("worker"), ExitStack() as commit:
        path = commit.enter_context(output.staged(shard.part_name, tools.replace))
        with tools.reader.decoded(shard, clock) as decoded, PartWriter(path, tools.layout) as part:
            embedded = _embedded(decoded, tools, clock, on_rows)
            with ahead(embedded, 1, clock.between("encode", "write")) as windows:
                for window in windows:
                    _count(window, tools.flops, stats)
                    with clock.stage("write"):
                        part.write(tools.layout.table(shard, *window))
            _note(clock, stats)
            part.finish({**tools.provenance, **footer.of_shard(shard, stats)})
        with clock.stage("commit"):
            stats.part_bytes = verify(path, tools.layout, stats.rows)
            commit.close()
    _note(clock, stats)
    return stats


def _embedded(
    decoded: Iterable[list[DecodedRow]], tools: ShardTools, clock: Clock, on_rows: OnRows
) -> Iterator[Embedded]:
    for window in _windows(decoded):
        yield _encode(window, tools, clock, on_rows)


def _windows(decoded: Iterable[list[DecodedRow]]) -> Generator[Iterator[list[DecodedRow]], None, None]:
    """Runs of chunks, of `_WINDOW` rows or a few more. A run must be used up before the next begins."""
    iterator = iter(decoded)
    for first in iterator:
        yield _one_window(first, iterator)


def _one_window(first: list[DecodedRow], rest: Iterator[list[DecodedRow]]) -> Iterator[list[DecodedRow]]:
    yield first
    rows = len(first)
    while rows < _WINDOW and (chunk := next(rest, None)) is not None:
        yield chunk
        rows += len(chunk)


def _encode(window: Iterable[list[DecodedRow]], tools: ShardTools, clock: Clock, on_rows: OnRows) -> Embedded:
    """Images as they come, so that few are held; captions of the whole window at its end."""
    rows: list[DecodedRow] = []
    images: dict[int, Vector] = {}
    waiting: list[DecodedRow] = []

    def encode_images(batch: list[DecodedRow]) -> None:
        with clock.stage("encode"):
            vectors, _ = tools.encoder.encode([row.pixels for row in batch if row.pixels is not None], [])
        for row, vector in zip(batch, vectors, strict=True):
            images[row.row] = vector
            row.pixels = None

    for chunk in window:
        rows += chunk
        waiting += [row for row in chunk if row.pixels is not None]
        while len(waiting) >= tools.images_a_batch:
            encode_images(waiting[: tools.images_a_batch])
            waiting = waiting[tools.images_a_batch :]
        failed = sum(row.error is not None for row in chunk)
        on_rows(len(chunk) - failed, failed)
    if waiting:
        encode_images(waiting)
    captioned = [row for row in rows if row.tokens is not None]
    with clock.stage("encode"):
        _, vectors = tools.encoder.encode([], [row.tokens for row in captioned if row.tokens is not None])
    texts = {row.row: vector for row, vector in zip(captioned, vectors, strict=True)}
    for row in rows:
        _refuse_what_is_not_finite(row, images, texts)
    return Embedded(rows, [images.get(row.row) for row in rows], [texts.get(row.row) for row in rows])


def _refuse_what_is_not_finite(row: DecodedRow, *sides: dict[int, Vector]) -> None:
    """Weights that diverged, or too few bits for them, give NaN: no row to search or to filter by."""
    if not all(np.isfinite(side[row.row]).all() for side in sides if row.row in side):
        row.error = "encode: embedding is not finite"
        for side in sides:
            side.pop(row.row, None)


def _count(window: Embedded, flops: Iterable[Flops], stats: ShardStats) -> None:
    failures = [reason_of(row.error) for row in window.rows if row.error is not None]
    stats.rows += len(window.rows)
    stats.embedded += len(window.rows) - len(failures)
    stats.failures.update(failures)
    embedded = [row for row in window.rows if row.error is None]
    stats.half_pairs.update(row.half_pair for row in embedded if row.half_pair is not None)
    stats.notes.update(note for row in embedded for note in row.notes)
    images = sum(image is not None for image in window.images)
    tokens = [row.caption_tokens or 0 for row, text in zip(window.rows, window.texts, strict=True) if text is not None]
    stats.flop += sum(model.total(images, tokens) for model in flops)


def _note(clock: Clock, stats: ShardStats) -> None:
    times = clock.times()
    stats.seconds, stats.starved, stats.blocked = times.busy, times.starved, times.blocked
