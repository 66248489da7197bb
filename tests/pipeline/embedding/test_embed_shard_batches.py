"""One shard in pieces: row groups, batches, progress, and how many images are in memory."""

from __future__ import annotations

import threading
import weakref
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from clipmill.clipmodel.preprocess import Preprocess
from clipmill.clipmodel.tokenizer import Tokenizer
from clipmill.pipeline.dataset.output import Output
from clipmill.pipeline.embedding import embed_shard as module
from clipmill.pipeline.embedding import shard_reader as decoding
from clipmill.pipeline.embedding.decode import Decoder
from clipmill.pipeline.embedding.embed_shard import embed_shard
from clipmill.pipeline.records import Pixels
from fakes import (
    CONTEXT,
    SIDE,
    Drawn,
    FakeEncoder,
    fake_tools,
    threaded,
    write_pairs,
)


@pytest.mark.parametrize(("rows", "groups"), [(7, [7]), (8, [8]), (9, [8, 1]), (16, [8, 8]), (19, [8, 8, 3])])
def test_windows_are_row_groups_and_lose_nothing(
    tmp_path: Path, output: Output, monkeypatch: pytest.MonkeyPatch, rows: int, groups: list[int]
) -> None:
    monkeypatch.setattr(decoding, "CHUNK", 2)
    monkeypatch.setattr(module, "_WINDOW", 8)
    texts: list[int] = []
    encoder = FakeEncoder(on_call=lambda _, count: texts.append(count) if count else None)
    shard = write_pairs(tmp_path / "x.tar", rows)
    embed_shard(shard, fake_tools(encoder, images_a_batch=3), output)
    part = Path(output.url) / "data" / shard.part_name
    got = pq.read_table(part).to_pylist()
    assert [row["key"] for row in got] == [f"{i:05d}" for i in range(rows)]
    assert all(row["similarity"] is not None for row in got)
    assert texts == groups  # captions of a window are encoded together
    metadata = pq.read_metadata(part)
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == groups


@pytest.mark.parametrize("batch", [1, 5, 64])
def test_images_go_in_batches_of_the_asked_size(tmp_path: Path, output: Output, batch: int) -> None:
    sizes: list[int] = []
    encoder = FakeEncoder(on_call=lambda count, _: sizes.append(count) if count else None)
    embed_shard(write_pairs(tmp_path / "x.tar", 36), fake_tools(encoder, images_a_batch=batch), output)
    assert sum(sizes) == 36 and set(sizes[:-1]) <= {batch} and sizes[-1] <= batch


def test_progress_adds_up_to_the_counts(drawn: Drawn, output: Output) -> None:
    told: list[tuple[int, int]] = []
    stats = embed_shard(drawn.shards[0], fake_tools(), output, lambda *rows: told.append(rows))
    assert len(told) > 1
    assert (sum(good for good, _ in told), sum(bad for _, bad in told)) == (stats.embedded, stats.failed)


@dataclass(frozen=True)
class WatchedPreprocess(Preprocess):
    """Keeps an eye on the images that it makes."""

    made: list[weakref.ref[Pixels]] = field(default_factory=list)

    def with_size(self, image: Any) -> tuple[Pixels, tuple[int, int]]:
        pixels, size = super().with_size(image)
        self.made.append(weakref.ref(pixels))
        return pixels, size


def test_few_images_are_in_memory_at_once(tmp_path: Path, output: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many for a long shard as for a short one, however slow the encoder."""
    monkeypatch.setattr(decoding, "CHUNK", 4)
    preprocess = WatchedPreprocess(SIDE)
    alive: list[int] = []

    def look(images: int, _: int) -> None:
        if images:
            threading.Event().wait(0.01)  # let decoding run ahead as far as it may
            alive.append(sum(made() is not None for made in preprocess.made))

    decoder = Decoder(preprocess, Tokenizer(1000, CONTEXT))
    source = threaded(decoder)
    tools = fake_tools(FakeEncoder(on_call=look), images_a_batch=4, reader=source)
    embed_shard(write_pairs(tmp_path / "x.tar", 200), tools, output)
    assert len(preprocess.made) == 200
    # waiting between stages, in the decoder's hands twice over, and being encoded
    assert max(alive) <= 4 * (decoding.AHEAD + 2) + 2 * 4
