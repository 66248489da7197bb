"""One shard: stream, decode, encode, score, write, verify, commit. No Ray in it."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any

from .ahead import ahead
from .clock import Clock
from .decode import Decoder, reason_of
from .encode import Encoder
from .output import Output
from .parquet import PartLayout, PartWriter, verify
from .records import Decoded, Sample, Shard, ShardStats, Vector
from .shards import read_samples
from .together import Decoders

_CHUNK = 32  # samples that go from stage to stage together,
_CHUNK_BYTES = 8 << 20  # or fewer, of as many encoded bytes
_AHEAD = 3  # chunks read, and chunks decoded, that may wait: what bounds the memory
_WINDOW = 4096  # rows a row group; captions of a window are sorted by length

OnRows = Callable[[int, int], None]  # newly embedded rows, newly failed ones


@dataclass(frozen=True)
class Mill:
    """What a worker holds for all its shards."""

    encoder: Encoder
    decoder: Decoder | Decoders
    pool: Executor  # decodes images; threads
    layout: PartLayout
    provenance: Mapping[str, str]  # goes into every part's footer
    images_a_batch: int = 32
    replace: bool = False  # parts that are there already
    storage_options: Mapping[str, Any] = field(default_factory=dict)


def embed_shard(shard: Shard, mill: Mill, output: Output, on_rows: OnRows = lambda *_: None) -> ShardStats:
    """Embed every sample of a shard and commit its part; what could not be embedded is a row with a reason.

    Raises ShardError for a shard that cannot be read at all, OSError for whatever the storage does. Nothing is
    visible of a shard that did not get to the end.
    """
    clock, stats = Clock(), ShardStats(shard.url)
    samples = clock.timed("read", chunks(read_samples(shard, mill.storage_options)))
    with output.staged(shard.part_name, mill.replace) as path, ahead(samples, _AHEAD) as read:
        with ahead(_decoded(read, mill, clock), _AHEAD) as rows, PartWriter(path, mill.layout) as part:
            for window in _windows(rows):
                encoded, images, texts = _encode(window, mill, clock, on_rows)
                _count(encoded, stats)
                with clock.stage("write"):
                    part.write(mill.layout.table(shard, encoded, images, texts))
            stats.seconds = {**clock.seconds, "total": clock.total()}
            part.finish(_footer(shard, stats, mill.provenance))
        stats.part_bytes = verify(path, mill.layout, stats.rows)
    stats.seconds = {**clock.seconds, "total": clock.total()}
    return stats


def chunks(samples: Iterable[Sample]) -> Iterator[list[Sample]]:
    """In order, bounded by number and by bytes, so that large images take no more memory than small ones."""
    chunk: list[Sample] = []
    size = 0
    for sample in samples:
        chunk.append(sample)
        size += len(sample.image or b"")
        if len(chunk) >= _CHUNK or size >= _CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _decoded(read: Iterable[list[Sample]], mill: Mill, clock: Clock) -> Iterator[list[Decoded]]:
    for chunk in read:
        with clock.stage("decode"):
            rows = mill.decoder.decode_batch(chunk, mill.pool)
        yield rows


def _windows(decoded: Iterable[list[Decoded]]) -> Generator[Iterator[list[Decoded]], None, None]:
    """Runs of chunks, of `_WINDOW` rows or a few more. Each must be used up before the next is asked for."""
    iterator = iter(decoded)
    for first in iterator:
        yield _one_window(first, iterator)


def _one_window(first: list[Decoded], rest: Iterator[list[Decoded]]) -> Iterator[list[Decoded]]:
    yield first
    rows = len(first)
    while rows < _WINDOW and (chunk := next(rest, None)) is not None:
        yield chunk
        rows += len(chunk)


def _encode(
    window: Iterable[list[Decoded]], mill: Mill, clock: Clock, on_rows: OnRows
) -> tuple[list[Decoded], list[Vector | None], list[Vector | None]]:
    """Images as they come, so that few are held; captions of the whole window at its end."""
    rows: list[Decoded] = []
    images: dict[int, Vector] = {}
    waiting: list[Decoded] = []

    def encode_images(batch: list[Decoded]) -> None:
        with clock.stage("encode"):
            vectors, _ = mill.encoder.encode([row.pixels for row in batch if row.pixels is not None], [])
        for row, vector in zip(batch, vectors, strict=True):
            images[row.row] = vector
            row.pixels = None

    for chunk in window:
        rows += chunk
        waiting += [row for row in chunk if row.pixels is not None]
        while len(waiting) >= mill.images_a_batch:
            encode_images(waiting[: mill.images_a_batch])
            waiting = waiting[mill.images_a_batch :]
        failed = sum(row.error is not None for row in chunk)
        on_rows(len(chunk) - failed, failed)
    if waiting:
        encode_images(waiting)
    captioned = [row for row in rows if row.tokens is not None]
    with clock.stage("encode"):
        _, vectors = mill.encoder.encode([], [row.tokens for row in captioned if row.tokens is not None])
    texts = {row.row: vector for row, vector in zip(captioned, vectors, strict=True)}
    return rows, [images.get(row.row) for row in rows], [texts.get(row.row) for row in rows]


def _count(rows: list[Decoded], stats: ShardStats) -> None:
    failures = [reason_of(row.error) for row in rows if row.error is not None]
    stats.rows += len(rows)
    stats.embedded += len(rows) - len(failures)
    stats.failures.update(failures)


def _footer(shard: Shard, stats: ShardStats, provenance: Mapping[str, str]) -> dict[str, str]:
    """Key-value metadata of the part. Timings are up to here: the commit's own cannot be in what is committed."""
    return {
        **provenance,
        "clipmill.shard": json.dumps({"url": shard.url, "size": shard.size, "etag": shard.etag}),
        "clipmill.counts": json.dumps({"rows": stats.rows, "embedded": stats.embedded, "failures": stats.failures}),
        "clipmill.seconds": json.dumps({stage: round(s, 4) for stage, s in stats.seconds.items()}),
    }
