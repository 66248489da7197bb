"""One shard: stream, decode, encode, score, write, verify, commit. No Ray in it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from ...clipmodel.flops import Flops
from ..dataset import footer
from ..dataset.layout import part_path
from ..dataset.output import Output
from ..dataset.part import Embeddings, PartLayout, PartWriter, verify
from ..dataset.sample_columns import with_values
from ..records import Positions, Shard, ShardStats, Vectors
from ..storage.ahead import ahead
from .chunk import Chunk, Waiting
from .clock import Clock, WorkerClock
from .decode import reason_of
from .leaving_out import LeavingOut
from .shard_reader import ShardReader
from .together import Together

_WINDOW = 4096  # rows a row group; captions of a window are sorted by length
_NOT_FINITE = "encode: embedding is not finite"

OnRows = Callable[[int, int], None]  # newly embedded rows, newly failed ones


@dataclass(frozen=True)
class ShardTools:
    """What a worker holds for all its shards."""

    encoder: Together  # of what its reader decodes
    reader: ShardReader
    layout: PartLayout
    provenance: Mapping[str, str]  # for every part's footer
    images_a_batch: int = 32
    replace: bool = False  # parts that are there already
    flops: tuple[Flops, ...] = ()  # of the models
    peak: float = 0.0  # FLOP a second of the device; 0 where it is not known
    clock: WorkerClock = field(default_factory=WorkerClock)
    leaving_out: LeavingOut = field(default_factory=LeavingOut)


class Embedded(NamedTuple):
    """A window's rows with their embeddings."""

    samples: pa.RecordBatch
    images: Embeddings
    texts: Embeddings


def embed_shard(shard: Shard, tools: ShardTools, output: Output, on_rows: OnRows = lambda *_: None) -> ShardStats:
    """Embed every sample of a shard and commit its part; what could not be embedded is a row with a reason.

    Raises ShardError for a shard that cannot be read at all, OSError for whatever the storage does. Nothing is
    visible of a shard that did not get to the end.
    """
    clock, stats = Clock(tools.clock), ShardStats(shard.url, peak=tools.peak)
    with clock.stage("worker"), ExitStack() as commit:
        path = commit.enter_context(output.staged(part_path(shard.part_name), tools.replace))
        with tools.reader.decoded(shard, clock) as decoded, PartWriter(path, tools.layout.schema) as part:
            embedded = _embedded(decoded, shard, tools, clock, on_rows)
            with ahead(embedded, 1, clock.between("encode", "write")) as windows:
                for window in windows:
                    _count(window, tools.flops, stats)
                    with clock.stage("write"):
                        part.write(tools.layout.table(shard, *window))
            _note(clock, stats)
            part.finish({**tools.provenance, **footer.of_shard(shard, stats)})
        with clock.stage("commit"):
            stats.part_bytes = verify(path, tools.layout.schema, stats.rows)
            commit.close()
    _note(clock, stats)
    return stats


def _embedded(
    decoded: Iterable[Chunk], shard: Shard, tools: ShardTools, clock: Clock, on_rows: OnRows
) -> Iterator[Embedded]:
    for window in _windows(decoded):
        encoded = _encode(window, tools, clock, on_rows)
        samples = tools.leaving_out(encoded.samples, shard.url, encoded.images, encoded.texts)
        yield encoded._replace(samples=samples)


def _windows(decoded: Iterable[Chunk]) -> Generator[Iterator[Chunk], None, None]:
    """Runs of chunks, of `_WINDOW` rows or a few more. A run must be used up before the next begins."""
    iterator = iter(decoded)
    for first in iterator:
        yield _one_window(first, iterator)


def _one_window(first: Chunk, rest: Iterator[Chunk]) -> Iterator[Chunk]:
    yield first
    rows = len(first)
    while rows < _WINDOW and (chunk := next(rest, None)) is not None:
        yield chunk
        rows += len(chunk)


def _encode(window: Iterable[Chunk], tools: ShardTools, clock: Clock, on_rows: OnRows) -> Embedded:
    """Images as they come, so that few are held; captions of the whole window at its end."""
    samples: list[pa.RecordBatch] = []
    images, texts, rows = Waiting(), Waiting(), 0
    vectors: list[tuple[Positions, Vectors]] = []

    def encode_images(count: int) -> None:
        positions, batch = images.take(count)
        with clock.stage("encode"):
            vectors.append((positions, tools.encoder.encode(batch, [])[0]))

    for chunk in window:
        samples.append(chunk.samples)
        images.add(chunk.pixels_of + rows, chunk.pixels)
        texts.add(chunk.tokens_of + rows, chunk.tokens)
        rows += len(chunk)
        while len(images) >= tools.images_a_batch:
            encode_images(tools.images_a_batch)
        embedded = chunk.samples.column("error").null_count
        on_rows(embedded, len(chunk) - embedded)
    if len(images):
        encode_images(len(images))
    captions: list[tuple[Positions, Vectors]] = []
    if len(texts):
        positions, tokens = texts.take(len(texts))
        with clock.stage("encode"):
            captions.append((positions, tools.encoder.encode([], tokens)[1]))
    dim = tools.layout.dim
    return _finite(pa.concat_batches(samples), Embeddings.of(rows, dim, vectors), Embeddings.of(rows, dim, captions))


def _finite(samples: pa.RecordBatch, images: Embeddings, texts: Embeddings) -> Embedded:
    """Weights that diverged, or too few bits for them, give NaN: no row to search or to filter by."""
    wrong = ~(np.isfinite(images.vectors).all(axis=1) & np.isfinite(texts.vectors).all(axis=1))
    if wrong.any():
        samples = with_values(samples, "error", dict.fromkeys(np.flatnonzero(wrong).tolist(), _NOT_FINITE))
        for side in (images, texts):
            side.vectors[wrong] = 0.0
            side.missing[wrong] = True
    return Embedded(samples, images, texts)


def _count(window: Embedded, flops: Iterable[Flops], stats: ShardStats) -> None:
    errors = window.samples.column("error")
    stats.rows += len(errors)
    stats.embedded += errors.null_count
    stats.failures.update(map(reason_of, errors.drop_null().to_pylist()))
    embedded = window.samples.filter(errors.is_null())
    stats.half_pairs.update(embedded.column("half_pair").drop_null().to_pylist())
    stats.notes.update(embedded.column("notes").flatten().to_pylist())
    images = len(errors) - int(window.images.missing.sum())
    tokens = window.samples.column("caption_tokens").filter(pa.array(~window.texts.missing)).to_pylist()
    stats.flop += sum(model.total(images, tokens) for model in flops)


def _note(clock: Clock, stats: ShardStats) -> None:
    times = clock.times()
    stats.seconds, stats.starved, stats.blocked = times.busy, times.starved, times.blocked
    stats.reading = clock.reading
