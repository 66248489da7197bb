"""One shard: every sample becomes one row, in order; what breaks off leaves nothing."""

from __future__ import annotations

import gzip
import hashlib
import json
import struct
import threading
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from clipmill.clipmodel.flops import Flops
from clipmill.pipeline.dataset.layout import OWN
from clipmill.pipeline.dataset.output import Output
from clipmill.pipeline.embedding import shard_reader as decoding
from clipmill.pipeline.embedding.decode import reason_of
from clipmill.pipeline.embedding.embed_shard import ShardTools, embed_shard
from clipmill.pipeline.errors import ShardError
from clipmill.pipeline.inputs.shards import read_samples
from clipmill.pipeline.records import Shard, ShardStats, Vectors
from fakes import (
    CONTEXT,
    Drawn,
    FakeEncoder,
    fake_decoder,
    fake_tools,
    jpeg,
    unit_vector,
    write_pairs,
    write_tar,
)
from fsspec.implementations.memory import MemoryFileSystem

Rows = list[dict[str, Any]]


def embedded(shard: Shard, tools: ShardTools, output: Output) -> tuple[ShardStats, Rows]:
    stats = embed_shard(shard, tools, output)
    with output.open(f"data/{shard.part_name}") as file:
        return stats, pq.read_table(file).to_pylist()


def assert_nothing_is_left(output: Output) -> None:
    assert output.parts() == output.names() == set()
    assert list((Path(output.url) / OWN / "staging").iterdir()) == []
    assert [thread.name for thread in threading.enumerate() if thread.name == "ahead"] == []


def test_every_sample_is_one_row_in_the_shards_order(drawn: Drawn, output: Output) -> None:
    for shard in drawn.shards:
        _, rows = embedded(shard, fake_tools(), output)
        samples = list(read_samples(shard))
        assert len(rows) == 40
        assert [(row["row"], row["key"]) for row in rows] == [(s.row, s.key) for s in samples]
        assert {row["shard"] for row in rows} == {shard.url}
    assert output.parts() == {shard.part_name for shard in drawn.shards}


def test_every_row_has_its_own_embeddings_and_facts(drawn: Drawn, output: Output) -> None:
    shard = drawn.shards[0]
    _, rows = embedded(shard, fake_tools(), output)
    for sample, row in zip(read_samples(shard), rows, strict=True):
        alone = fake_decoder().decode(sample)
        assert (row["error"], row["caption"], row["sha256"]) == (alone.error, alone.caption, alone.sha256)
        assert (row["width"], row["height"], row["caption_tokens"]) == (alone.width, alone.height, alone.caption_tokens)
        assert row["url"] == sample.metadata.get("url")
        if alone.error is None:
            assert alone.pixels is not None and alone.tokens is not None
            image, text = unit_vector(alone.pixels.tobytes(), 8), unit_vector(alone.tokens.tobytes(), 8)
            np.testing.assert_array_equal(row["image_embedding"], image)
            np.testing.assert_array_equal(row["text_embedding"], text)
            assert row["similarity"] == pytest.approx(float(image @ text), abs=1e-6)


def test_damaged_samples_are_rows_with_reasons(drawn: Drawn, output: Output) -> None:
    found: Counter[str] = Counter()
    for shard in drawn.shards:
        stats, rows = embedded(shard, fake_tools(), output)
        failed = [row for row in rows if row["error"] is not None]
        for row in failed:
            assert row["image_embedding"] is row["text_embedding"] is row["similarity"] is None
        for row in rows:
            assert row["error"] is not None or None not in (row["image_embedding"], row["text_embedding"])
        assert stats.failures == Counter(reason_of(row["error"]) for row in failed)
        assert (stats.rows, stats.embedded, stats.failed) == (len(rows), len(rows) - len(failed), len(failed))
        found += stats.failures
    assert found.total() == drawn.spec.damaged == 12
    assert {reason.partition(":")[0] for reason in found} == {"read", "decode", "tokenise"}
    assert {"decode: empty file", "decode: not an image", "read: json is not valid"} <= set(found)


def test_an_absurd_size_in_a_header_fails_its_row_only(tmp_path: Path, output: Output) -> None:
    """Found here: the claimed width does not fit its column."""

    def png_chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 2**32 - 1, 9, 8, 2, 0, 0, 0))
    absurd = b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", zlib.compress(bytes(99)))
    shard = write_tar(tmp_path / "x.tar", [("a.png", absurd), ("a.txt", b"a"), ("b.jpg", jpeg()), ("b.txt", b"b")])
    _, rows = embedded(shard, fake_tools(), output)
    assert [row["error"] is None for row in rows] == [False, True]
    assert "image over the limit" in rows[0]["error"] and rows[0]["width"] is None


MIXED = [
    ("both.jpg", jpeg(1)), ("both.txt", b"a dog"),
    ("image.jpg", jpeg(2)),
    ("text.txt", b"a cat"),
    ("neither.json", b'{"url": "http://x"}'),
    ("latin.jpg", jpeg(3)), ("latin.txt", b"caf\xe9"),
    ("broken.jpg", jpeg(4)[:99]), ("broken.txt", b"a cow"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("images", "texts", "expected"),
    [
        (True, True, {"both": "it", "image": "i", "text": "t", "neither": "", "latin": "", "broken": ""}),
        (True, False, {"both": "i", "image": "i", "text": "", "neither": "", "latin": "i", "broken": ""}),
        (False, True, {"both": "t", "image": "", "text": "t", "neither": "", "latin": "", "broken": "t"}),
    ],
)
def test_what_is_not_wanted_is_not_embedded(
    tmp_path: Path, output: Output, images: bool, texts: bool, expected: dict[str, str]
) -> None:
    shard = write_tar(tmp_path / "x.tar", MIXED)
    stats, rows = embedded(shard, fake_tools(images=images, texts=texts), output)
    got = {
        row["key"]: "i" * (row["image_embedding"] is not None) + "t" * (row["text_embedding"] is not None)
        for row in rows
    }
    assert got == expected
    for row in rows:
        assert (row["error"] is None) == bool(expected[row["key"]])
        assert (row["similarity"] is not None) == (expected[row["key"]] == "it")
    assert stats.embedded == sum(map(bool, expected.values())) and stats.rows == 6


def test_a_shard_without_samples_is_a_part_without_rows(tmp_path: Path, output: Output) -> None:
    stats, rows = embedded(write_tar(tmp_path / "x.tar", []), fake_tools(), output)
    assert rows == [] and (stats.rows, stats.embedded) == (0, 0) and stats.part_bytes > 0


def test_a_shard_that_breaks_off_ends_with_a_failed_row(tmp_path: Path, output: Output) -> None:
    shard = write_pairs(tmp_path / "x.tar", 10)
    path = Path(shard.url)
    path.write_bytes(path.read_bytes()[:-12_000])
    stats, rows = embedded(shard, fake_tools(), output)
    assert 1 < stats.rows == len(rows) < 10 and stats.failed == 1
    assert rows[-1]["error"].startswith("read: truncated tar")


@pytest.mark.parametrize("content", [b"", b"no tar" * 200, b"\x1f\x8b" + bytes(900)])
def test_what_is_no_tar_is_no_part(tmp_path: Path, output: Output, content: bytes) -> None:
    (tmp_path / "x.tar").write_bytes(content)
    with pytest.raises(ShardError):
        embed_shard(Shard(str(tmp_path / "x.tar")), fake_tools(), output)
    with pytest.raises(ShardError):
        embed_shard(Shard(str(tmp_path / "missing.tar")), fake_tools(), output)
    assert_nothing_is_left(output)


@pytest.mark.parametrize("side", ["images", "texts"])
def test_an_encoder_that_fails_leaves_nothing(drawn: Drawn, output: Output, side: str) -> None:
    def give_out(images: int, texts: int) -> None:
        if texts if side == "texts" else images:
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        embed_shard(drawn.shards[0], fake_tools(FakeEncoder(on_call=give_out)), output)
    assert_nothing_is_left(output)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_embedding_that_is_not_finite_is_a_failed_row(tmp_path: Path, output: Output, value: float) -> None:
    class Diverged(FakeEncoder):
        def encode(self, images: Any, texts: Any) -> tuple[Vectors, Vectors]:
            seen, read = super().encode(images, texts)
            seen[1:2, 3], read[2:3, 0] = value, value  # captions go by length: that of another row
            return seen, read

    stats, rows = embedded(write_pairs(tmp_path / "a.tar", 7), fake_tools(Diverged()), output)
    failed = [row for row in rows if row["error"] is not None]
    assert (stats.rows, stats.embedded) == (7, 7 - len(failed)) and stats.failures.total() == len(failed) > 0
    for row in failed:
        assert row["error"] == "encode: embedding is not finite"
        assert row["image_embedding"] is row["text_embedding"] is row["similarity"] is None
    assert all(np.isfinite(row["similarity"]) for row in rows if row["error"] is None)


def test_a_storage_that_fails_in_the_middle_leaves_nothing(drawn: Drawn, output: Output, monkeypatch: Any) -> None:
    def broken(*_: object) -> Any:
        yield from list(read_samples(drawn.shards[0]))[:20]
        raise ConnectionResetError("peer went away")

    monkeypatch.setattr(decoding, "read_samples", broken)
    with pytest.raises(ConnectionResetError):
        embed_shard(drawn.shards[0], fake_tools(), output)
    assert_nothing_is_left(output)


def test_an_object_store_gets_the_same_part(drawn: Drawn, output: Output) -> None:
    MemoryFileSystem().store.clear()
    store = Output.at("memory://bucket/out")
    _, here = embedded(drawn.shards[0], fake_tools(), output)
    _, there = embedded(drawn.shards[0], fake_tools(), store)
    assert here == there and store.parts() == {drawn.shards[0].part_name}


def test_the_footer_tells_where_the_part_comes_from(drawn: Drawn, output: Output) -> None:
    shard = drawn.shards[0]
    stats, _ = embedded(shard, fake_tools(), output)
    with output.open(f"data/{shard.part_name}") as file:
        footer = pq.read_metadata(file).metadata
    assert footer[b"made.by"] == b"a test"
    assert json.loads(footer[b"clipmill.shard"]) == {"url": shard.url, "size": shard.size, "etag": None}
    sides = {"half_pairs": dict(stats.half_pairs), "notes": {}}
    counts = {"rows": stats.rows, "embedded": stats.embedded, "failures": dict(stats.failures), **sides}
    assert json.loads(footer[b"clipmill.counts"]) == counts
    seconds, waits = json.loads(footer[b"clipmill.seconds"]), json.loads(footer[b"clipmill.waits"])
    assert set(seconds) == {"read", "decode", "encode", "write", "worker", "total", "cores"}
    assert set(waits["starved"]) == {"decode", "encode", "write"}
    assert set(waits["blocked"]) == {"read", "decode", "encode", "write"}
    assert stats.part_bytes == (Path(output.url) / "data" / shard.part_name).stat().st_size


def test_what_the_models_computed_is_counted_by_what_was_embedded(tmp_path: Path, output: Output) -> None:
    shard = write_tar(tmp_path / "x.tar", MIXED)  # of its six samples two have an image embedded, two a caption
    one = Flops(image=1e6, token=10.0, pair_of_tokens=1.0, caption=0.0, context_length=CONTEXT)
    stats, rows = embedded(shard, fake_tools(flops=(one, one), peak=1e12), output)
    images = sum(row["image_embedding"] is not None for row in rows)
    tokens = [row["caption_tokens"] for row in rows if row["text_embedding"] is not None]
    assert (images, len(tokens)) == (2, 2)
    assert stats.flop == 2 * (images * 1e6 + sum(10 * n + n * n for n in tokens)) and stats.peak == 1e12
    with output.open(f"data/{shard.part_name}") as file:
        assert json.loads(pq.read_metadata(file).metadata[b"clipmill.compute"]) == {"flop": stats.flop, "peak": 1e12}


def test_an_images_byte_range_is_that_image(drawn: Drawn, output: Output) -> None:
    shard = drawn.shards[1]
    tar = Path(shard.url).read_bytes()
    _, rows = embedded(shard, fake_tools(), output)
    for row in rows:
        begin = row["image_offset"]
        assert hashlib.sha256(tar[begin : begin + row["image_size"]]).hexdigest() == row["sha256"]


def test_a_compressed_shard_has_no_byte_ranges(drawn: Drawn, output: Output, tmp_path: Path) -> None:
    packed = tmp_path / "x.tar.gz"
    packed.write_bytes(gzip.compress(Path(drawn.shards[0].url).read_bytes(), 1))
    _, plain = embedded(drawn.shards[0], fake_tools(), output)
    _, rows = embedded(Shard(str(packed)), fake_tools(), output)
    assert {row["image_offset"] for row in rows} == {None}
    same = {"image_offset": None, "shard": None}
    assert [row | same for row in rows] == [row | same for row in plain]
