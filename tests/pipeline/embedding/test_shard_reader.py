"""A shard's samples in chunks, decoded ahead of who takes them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clipmill.pipeline.embedding import shard_reader as module
from clipmill.pipeline.embedding.clock import Clock
from clipmill.pipeline.embedding.shard_reader import ThreadedReader, chunks
from clipmill.pipeline.errors import ShardError
from clipmill.pipeline.inputs.shards import read_samples
from clipmill.pipeline.records import Sample, Shard
from fakes import Drawn, fake_decoder, rows_of, threaded, write_pairs


@pytest.fixture
def source() -> ThreadedReader:
    return threaded(fake_decoder())


def test_chunks_lose_nothing() -> None:
    def rows(sizes: list[int]) -> list[list[int]]:
        return [
            [s.row for s in chunk] for chunk in chunks((Sample(i, "", b"x" * n) for i, n in enumerate(sizes)), 3, 100)
        ]

    assert rows([1] * 7) == [[0, 1, 2], [3, 4, 5], [6]]
    assert rows([1] * 6) == [[0, 1, 2], [3, 4, 5]]
    assert rows([]) == []
    assert rows([100, 1, 99, 1, 1]) == [[0], [1, 2], [3, 4]]  # large images go in smaller company


def test_every_sample_is_decoded_as_it_would_be_alone(source: ThreadedReader, drawn: Drawn) -> None:
    with source.decoded(drawn.shards[0], Clock()) as decoded:
        rows = [row for chunk in decoded for row in rows_of(chunk)]
    alone = [fake_decoder().decode(sample) for sample in read_samples(drawn.shards[0])]
    assert [(row.row, row.key, row.caption, row.error) for row in rows] == [
        (row.row, row.key, row.caption, row.error) for row in alone
    ]
    for row, expected in zip(rows, alone, strict=True):
        for mine, theirs in ((row.pixels, expected.pixels), (row.tokens, expected.tokens)):
            assert (mine is None) == (theirs is None)
            if mine is not None and theirs is not None:
                np.testing.assert_array_equal(mine[0], theirs)


def test_reading_and_decoding_are_timed(source: ThreadedReader, tmp_path: Path) -> None:
    clock = Clock()
    with source.decoded(write_pairs(tmp_path / "x.tar", 40), clock) as decoded:
        assert sum(map(len, decoded)) == 40
    times = clock.times()
    assert times.busy["read"] > 0 and times.busy["decode"] > 0
    assert set(times.starved) == {"decode", "encode"} and set(times.blocked) >= {"read", "decode"}


def test_what_cannot_be_read_is_told_to_the_consumer(source: ThreadedReader, tmp_path: Path) -> None:
    with (
        pytest.raises(ShardError, match="no such file"),
        source.decoded(Shard(str(tmp_path / "missing.tar")), Clock()) as decoded,
    ):
        list(decoded)


def test_leaving_early_ends_reading(source: ThreadedReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = threading.Event()

    def endless(*_: Any) -> Iterator[Sample]:
        try:
            row = 0
            while True:
                yield Sample(row, str(row), caption=b"a word")
                row += 1
        finally:
            closed.set()

    monkeypatch.setattr(module, "read_samples", endless)
    with source.decoded(Shard("x"), Clock()) as decoded:
        next(iter(decoded))
    assert closed.is_set()
    assert [thread.name for thread in threading.enumerate() if thread.name == "ahead"] == []
