"""Decoding in other processes gives the same rows, holds as little in memory, and is done again when one dies."""

from __future__ import annotations

import pickle
import time
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import ray
from clipmill.clipmodel.preprocess import Preprocess
from clipmill.pipeline.dataset.output import Output
from clipmill.pipeline.embedding import shard_reader as decoding
from clipmill.pipeline.embedding.clock import Clock
from clipmill.pipeline.embedding.decode import Decoder
from clipmill.pipeline.embedding.embed_shard import embed_shard
from clipmill.pipeline.embedding.together import Decoders
from clipmill.pipeline.errors import ShardError
from clipmill.pipeline.records import Decoded, Shard
from clipmill.pipeline.running.driver import run_shards
from clipmill.pipeline.running.events import ShardDone, ShardRetried, WorkerLost
from clipmill.pipeline.running.placement import Placement, Seat
from clipmill.pipeline.running.reader_processes import CHUNKS_ON_THE_WAY, ProcessReader, ReaderProcess, ReaderSettings
from clipmill.pipeline.running.readers import LentReader, ReadingFailed
from clipmill.pipeline.running.run_options import RunOptions
from fakes import FAKE_LAYOUT, Drawn, fake_decoder, fake_tools, rows_of, write_pairs
from lent_workers import ActorFactory, WatchedDecoder


@pytest.fixture
def output(tmp_path: Path) -> Output:
    return Output.at(str(tmp_path / "out")).prepare()


@pytest.fixture(scope="module")
def source(cluster: None) -> ProcessReader:
    return processes(fake_decoder())


def processes(*decoders: Decoder) -> ProcessReader:
    """One that is lent to a worker for good."""
    actor = ray.remote(ReaderProcess).options(num_cpus=0.25).remote(ReaderSettings(Decoders(decoders), FAKE_LAYOUT), 1)
    reader = ProcessReader(leave_jpegs=False)
    reader.lend([LentReader(7, "here", actor)])
    return reader


def decoded(source: ProcessReader, shard: Shard, clock: Clock | None = None) -> list[Decoded[Any, Any]]:
    with source.decoded(shard, clock or Clock()) as chunks:
        return [row for chunk in chunks for row in rows_of(chunk)]


def test_parts_are_the_same_as_from_threads(source: ProcessReader, drawn: Drawn, output: Output) -> None:
    for shard in drawn.shards:
        embed_shard(shard, fake_tools(reader=source), output)
        there = pq.read_table(f"{output.url}/data/{shard.part_name}")
        embed_shard(shard, fake_tools(replace=True), output)
        assert pq.read_table(f"{output.url}/data/{shard.part_name}") == there and len(there) == 40


def test_images_are_read_where_they_lie_and_nothing_else_is_kept_there(source: ProcessReader, tmp_path: Path) -> None:
    """Ray's store keeps a chunk's images as long as any array that it shares with the store is alive."""
    with source.decoded(write_pairs(tmp_path / "x.tar", 3), Clock()) as chunks:
        (chunk,) = chunks
    (images,), (tokens,) = chunk.pixels, chunk.tokens
    assert len(images) == len(tokens) == len(chunk) == 3
    assert not images.flags.writeable, "a copy"  # type: ignore[attr-defined]
    for array in (tokens.values, tokens.ends, chunk.pixels_of, chunk.tokens_of):
        assert array.flags.writeable or array.size == 0, "shared with the store, whose arrays cannot be written to"


def test_several_models_get_their_own_each(cluster: None, tmp_path: Path) -> None:
    both = (fake_decoder(), Decoder(Preprocess(8), fake_decoder().tokenizer))
    shard = write_pairs(tmp_path / "x.tar", 3)
    rows = decoded(processes(*both), shard)
    assert [[way.shape for way in row.pixels] for row in rows] == [[(16, 16, 3), (8, 8, 3)]] * 3  # type: ignore[union-attr]
    alone = Decoders(both).decode_batch(list(decoding.read_samples(shard)))
    for row, expected in zip(rows, alone, strict=True):
        for mine, theirs in zip([*row.pixels, *row.tokens], [*expected.pixels, *expected.tokens], strict=True):  # type: ignore[misc]
            np.testing.assert_array_equal(mine, theirs)


def test_where_the_time_went_comes_along(source: ProcessReader, tmp_path: Path) -> None:
    clock = Clock()
    decoded(source, write_pairs(tmp_path / "x.tar", 40), clock)
    times = clock.times()
    assert times.busy["read"] > 0 and times.busy["decode"] > 0
    assert {"read", "decode"} <= set(times.blocked) and {"decode", "encode"} <= set(times.starved)


def test_what_cannot_be_read_is_told_as_by_threads(source: ProcessReader, tmp_path: Path) -> None:
    with pytest.raises(ShardError, match="no such file"):
        decoded(source, Shard(str(tmp_path / "missing.tar")))
    (tmp_path / "x.tar").write_bytes(b"junk" * 999)
    with pytest.raises(ShardError, match="not a tar"):
        decoded(source, Shard(str(tmp_path / "x.tar")))
    assert len(decoded(source, write_pairs(tmp_path / "fine.tar", 3))) == 3


def test_a_process_runs_ahead_of_its_consumer_by_a_few_chunks(cluster: None, tmp_path: Path) -> None:
    """However long the shard; and it is free again when the consumer leaves."""
    folder = tmp_path / "chunks"
    folder.mkdir()
    source = processes(WatchedDecoder.at(folder))
    most = decoding.AHEAD + 2 + CHUNKS_ON_THE_WAY + 3  # in its handles, in the object store, here
    with source.decoded(write_pairs(tmp_path / "x.tar", 40 * decoding.CHUNK), Clock()) as chunks:
        next(iter(chunks))
        before = -1
        while (now := len(list(folder.iterdir()))) != before:
            before = now
            time.sleep(1.0)
        assert 1 < now <= most
    assert len(decoded(source, write_pairs(tmp_path / "y.tar", 5))) == 5
    assert len(list(folder.iterdir())) <= most + 3  # the rest of the first shard was not decoded for nobody


def test_a_process_that_dies_fails_its_shard_and_is_named(cluster: None, tmp_path: Path) -> None:
    folder = tmp_path / "chunks"
    folder.mkdir()
    source = processes(WatchedDecoder.at(folder, dies=3))
    with pytest.raises(ReadingFailed, match="a decode process was lost") as caught:
        decoded(source, write_pairs(tmp_path / "x.tar", 5 * decoding.CHUNK))
    there = pickle.loads(pickle.dumps(caught.value))
    assert (there.reader, there.machine, there.lost, str(there)) == (7, "here", True, str(caught.value))


def test_what_may_be_the_machines_fault_names_the_process(cluster: None, tmp_path: Path) -> None:
    folder = tmp_path / "chunks"
    folder.mkdir()
    source = processes(WatchedDecoder.at(folder, fails=1))
    with pytest.raises(ReadingFailed, match="OSError: the network is down") as caught:
        decoded(source, write_pairs(tmp_path / "x.tar", 3))
    assert (caught.value.reader, caught.value.lost) == (7, False)


def test_one_that_is_taken_away_ends_its_shard_and_reads_no_more(source: ProcessReader, tmp_path: Path) -> None:
    (lent,) = source._lent.values()
    done: list[int] = []
    with source.decoded(write_pairs(tmp_path / "x.tar", 3 * decoding.CHUNK), Clock()) as chunks:
        source.lend([])
        assert sum(len(chunk) for chunk in chunks) == 3 * decoding.CHUNK
    waiting = Thread(target=lambda: done.append(len(decoded(source, write_pairs(tmp_path / "y.tar", 5)))))
    waiting.start()
    waiting.join(0.5)
    assert waiting.is_alive() and not done
    source.lend([lent])
    waiting.join(30)
    assert done == [5]


@pytest.mark.parametrize("engines", [False, True], ids=["pixels travel", "bytes travel"])
def test_the_driver_gives_out_again_what_a_dying_process_had(
    cluster: None, tmp_path: Path, output: Output, engines: bool
) -> None:
    folder = tmp_path / "chunks"
    folder.mkdir()
    todo = [write_pairs(tmp_path / f"{i}.tar", 3 * decoding.CHUNK) for i in range(3)]
    factory = ActorFactory(output, WatchedDecoder.at(folder, dies=5 if not engines else 2), engines)
    placement = Placement(1, 0.5, 0.0, 1, fixed=True)
    readers = partial(factory.pool, placement, lambda: [Seat("", 1, True)])
    events = list(run_shards(todo, factory, placement, RunOptions(readers=readers)))
    assert [event for event in events if isinstance(event, WorkerLost)] == []
    assert len([event for event in events if isinstance(event, ShardRetried)]) == 1
    assert sorted(event.shard.url for event in events if isinstance(event, ShardDone)) == [s.url for s in todo]
    assert output.parts() == {shard.part_name for shard in todo}
    for shard in todo:
        rows = pq.read_table(f"{output.url}/data/{shard.part_name}", columns=["row", "error"]).to_pylist()
        assert [row["row"] for row in rows] == list(range(3 * decoding.CHUNK))
