"""JPEGs that stay encoded until they are on the encoder's device: the same rows as if a CPU had decoded them.

nvImageCodec's own CPU decoder stands in for a GPU's engines, through the very same calls.
"""

from __future__ import annotations

import io
import random
import tracemalloc
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import hostile_pictures
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from clipmill.clipmodel.config import PreprocessConfig
from clipmill.clipmodel.preprocess import Preprocess
from clipmill.pipeline.dataset.output import Output
from clipmill.pipeline.embedding import gpu_decode as module
from clipmill.pipeline.embedding.clock import Clock
from clipmill.pipeline.embedding.decode import Decoder
from clipmill.pipeline.embedding.embed_shard import embed_shard
from clipmill.pipeline.embedding.engine_reader import EngineReader
from clipmill.pipeline.embedding.gpu_decode import GpuDecoder, open_decoder
from clipmill.pipeline.embedding.nvimagecodec import open_engines
from clipmill.pipeline.embedding.together import Decoders
from clipmill.pipeline.records import Decoded, Shard
from fakes import Drawn, fake_decoder, fake_tools, rows_of, threaded, write_pairs, write_tar
from lent_workers import PillowEngines
from picture_kit import files, plugged, turned_by_exif
from PIL import Image

CPU = torch.device("cpu")
CLOSE = Preprocess(32, decoding="close")
needs_codec = pytest.mark.skipif(find_spec("nvidia.nvimgcodec") is None, reason="nvImageCodec is not installed")


def decoders(*ways: Preprocess) -> Decoders:
    tokenizer = fake_decoder().tokenizer
    return Decoders(tuple(Decoder(way, tokenizer) for way in ways or (CLOSE,)))


def by_engines(engines: Any, *ways: Preprocess) -> EngineReader:
    plain = decoders(*ways)
    return EngineReader(threaded(plain.leaving_jpegs()), GpuDecoder(CPU, plain.ways, [engines]))


def rows(reader: Any, shard: Shard) -> list[Decoded[Any, Any]]:
    with reader.decoded(shard, Clock()) as chunks:
        return [row for chunk in chunks for row in rows_of(chunk)]


def assert_same_rows(shard: Shard, engines: Any, *ways: Preprocess) -> int:
    """Of an engine's way and the CPU's; pixels are those of `exact`, or of `close`. How many differ from `close`."""
    ways = ways or (CLOSE,)
    got, expected = by_engines(engines, *ways), threaded(decoders(*ways))
    exact = threaded(decoders(*(replace(way, decoding="exact") for way in ways)))
    differ = 0
    for mine, close, golden in zip(rows(got, shard), rows(expected, shard), rows(exact, shard), strict=True):
        assert (mine.row, mine.key, mine.caption, mine.error) == (close.row, close.key, close.caption, close.error)
        assert (mine.pixels is None, mine.tokens is None) == (close.pixels is None, close.tokens is None)
        for square, near, reference in zip(mine.pixels or (), close.pixels or (), golden.pixels or (), strict=True):
            of_engines = np.array_equal(square, reference)
            assert of_engines or np.array_equal(square, near), mine.key
            differ += of_engines and not np.array_equal(square, near)
    return differ


def assert_same_part(shard: Shard, engines: Any, output: Output) -> None:
    """All columns but what the pixels decide."""
    tables = []
    for reader in (by_engines(engines), threaded(decoders())):
        stats = embed_shard(shard, fake_tools(reader=reader, replace=True), output)
        with output.open(f"data/{shard.part_name}") as file:
            table = pq.read_table(file)
        embedded = [value is not None for value in table.column("image_embedding").to_pylist()]
        kept = table.drop_columns(["image_embedding", "similarity"]).to_pylist()
        counts = (stats.rows, stats.embedded, stats.failures, stats.half_pairs, stats.notes)
        tables.append([*zip(kept, embedded, strict=True), counts])
    for mine, theirs in zip(*tables, strict=True):
        assert mine == theirs


def pairs_of(pictures: dict[str, bytes]) -> Iterator[tuple[str, bytes]]:
    for i, (name, data) in enumerate(pictures.items()):
        key = f"{i:05d}-" + "".join(c if c.isalnum() else "-" for c in name)
        yield f"{key}.jpg", data
        yield f"{key}.txt", f"picture {i}".encode()


def known_pictures() -> dict[str, bytes]:
    """Every damaged and odd picture that the tests know."""
    pictures = {**files(), **{name: data for name, (data, _) in plugged().items()}, "turned": turned_by_exif()}
    for kind in (hostile_pictures.too_large, hostile_pictures.too_much_work, hostile_pictures.harmless):
        pictures |= dict(kind())
    return pictures


def mutated(count: int) -> dict[str, bytes]:
    """JPEGs with a few bytes changed, of all samplings, and some restarts."""
    made = {}
    for seed in range(count):
        chance = random.Random(seed)
        options: dict[str, Any] = {"subsampling": seed % 3, "quality": chance.choice((60, 90))}
        if seed % 5 == 0:
            options["restart_marker_rows"] = 1
        data = bytearray(photo(chance.randrange(8, 90), chance.randrange(8, 90), seed, **options))
        for _ in range(chance.choice((1, 1, 1, 2, 5))):
            data[chance.randrange(len(data))] = chance.randrange(256)
        made[f"m{seed}"] = bytes(data[: chance.randrange(len(data))] if seed % 20 == 0 else data)
    return made


def photo(width: int, height: int, seed: int, **options: Any) -> bytes:
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 8 + 2, width // 8 + 2, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).save(file, "JPEG", **options)
    return file.getvalue()


# --- nvImageCodec ----------------------------------------------------------------------------------------------------


@needs_codec
def test_known_pictures_meet_the_same_fate(tmp_path: Path, output: Output) -> None:
    shard = write_tar(tmp_path / "x.tar", pairs_of(known_pictures()))
    assert_same_rows(shard, open_engines(CPU))
    assert_same_part(shard, open_engines(CPU), output)


@needs_codec
def test_two_thousand_damaged_jpegs_meet_the_same_fate(tmp_path: Path, output: Output) -> None:
    shard = write_tar(tmp_path / "x.tar", pairs_of(mutated(2000)))
    assert assert_same_rows(shard, open_engines(CPU)) > 100, "none was resized by other means than the CPU's"
    assert_same_part(shard, open_engines(CPU), output)


@needs_codec
def test_a_device_whose_engines_work_is_found() -> None:
    assert open_decoder("cpu", [CLOSE]) is not None


def test_a_device_without_engines_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "nvidia", None)
    assert open_decoder("cpu", [CLOSE]) is None


# --- other engines ---------------------------------------------------------------------------------------------------


def test_a_drawn_shard_has_the_same_part(drawn: Drawn, output: Output) -> None:
    for shard in drawn.shards:
        for refuses in (0, 1, 3):
            assert_same_part(shard, PillowEngines(refuses), output)


def test_every_image_has_its_own_pixels_whatever_the_engines_refuse(tmp_path: Path) -> None:
    shard = write_tar(tmp_path / "x.tar", MIXED)
    for refuses in (0, 1, 2, 3):
        assert_same_rows(shard, PillowEngines(refuses))


MIXED = [
    ("a.jpg", photo(50, 40, 1)), ("a.txt", b"a"),
    ("b.png", photo(50, 40, 2)), ("b.txt", b"b"),
    ("c.jpg", photo(50, 40, 3, progressive=True)), ("c.txt", b"c"),
    ("d.txt", b"no image"),
    ("e.jpg", photo(64, 40, 4)), ("e.txt", b"e"),
    ("f.jpg", photo(64, 40, 5)), ("f.txt", b"caf\xe9"),
    ("g.jpg", b"not an image"), ("g.txt", b"g"),
    ("h.jpg", photo(33, 99, 6)), ("h.txt", b"h"),
    ("i.jpg", photo(33, 99, 7)[:300]), ("i.txt", b"i"),
    ("j.jpg", photo(20, 20, 8)),
]  # fmt: skip


def test_models_of_different_sizes_each_get_their_pixels(tmp_path: Path) -> None:
    squashed = Preprocess(24, PreprocessConfig(resize="squash"), decoding="close")
    shard = write_tar(tmp_path / "x.tar", MIXED)
    assert_same_rows(shard, PillowEngines(3), CLOSE, squashed)


def test_decoding_is_the_reason_before_tokenising(tmp_path: Path) -> None:
    """Of a row whose caption fails the image is judged, too, though it would have stayed encoded."""
    broken = bytearray(photo(64, 64, 1))
    start = broken.index(b"\xff\xc4")
    broken[start + 5 : start + 21] = b"\xff" * 16  # a table of codes that no decoder takes
    shard = write_tar(tmp_path / "x.tar", [("a.jpg", bytes(broken)), ("a.txt", b"caf\xe9"), *MIXED])
    assert_same_rows(shard, PillowEngines())


def test_what_only_the_engines_take_for_broken_is_decoded_by_the_cpu(tmp_path: Path) -> None:
    class OfAnotherSize(PillowEngines):
        def decode(self, files: Sequence[Any], stream: int) -> list[Any]:
            return [image[:-1] for image in super().decode(files, stream)]

    shard = write_pairs(tmp_path / "x.tar", 5)
    assert all(row.error is None and row.pixels for row in rows(by_engines(OfAnotherSize()), shard))


def test_engines_are_asked_for_as_many_at_once_as_memory_allows(tmp_path: Path, monkeypatch: Any) -> None:
    shard = write_tar(tmp_path / "x.tar", pairs_of({str(i): photo(50, 40, i) for i in range(300)}))
    usual, small = PillowEngines(), PillowEngines()
    rows(by_engines(usual), shard)
    assert usual.batches == [256, 44]
    monkeypatch.setattr(module, "_DECODED_BYTES", 50 * 40 * 3 * 100)
    assert_same_rows(shard, small)
    assert max(small.batches) <= 101 and sum(small.batches) == 300


def test_memory_does_not_grow_with_the_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from clipmill.pipeline.embedding import shard_reader

    monkeypatch.setattr(shard_reader, "ENCODED_CHUNK", 16)
    peaks = []
    for count in (100, 800):
        shard = write_tar(tmp_path / f"{count}.tar", pairs_of({str(i): photo(200, 200, i % 7) for i in range(count)}))
        reader = by_engines(PillowEngines())
        tracemalloc.start()
        with reader.decoded(shard, Clock()) as chunks:
            assert sum(len(chunk) for chunk in chunks) == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]


def test_time_in_engines_and_resize_is_told(tmp_path: Path, output: Output) -> None:
    stats = embed_shard(write_pairs(tmp_path / "x.tar", 9), fake_tools(reader=by_engines(PillowEngines())), output)
    assert stats.seconds["engines"] > 0 and stats.seconds["resize"] > 0
    assert {"engines", "encode"} <= set(stats.starved)


# --- who may ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("way", "fits"),
    [
        (CLOSE, True),
        (Preprocess(32), False),
        (Preprocess(32, decoding="fast"), False),
        (Preprocess(32, PreprocessConfig(resize_to=40), decoding="close"), True),
        (Preprocess(32, PreprocessConfig(resize_to=24, steps="transformers"), decoding="close"), False),
        (Preprocess(32, PreprocessConfig(resize_to=4000), decoding="close"), False),
    ],
)
def test_only_steps_that_the_gpu_has_are_left_to_it(way: Preprocess, fits: bool) -> None:
    assert decoders(way).fit_engines is fits
    assert decoders(CLOSE, way).fit_engines is fits


def test_without_images_nothing_is_left_to_the_gpu() -> None:
    assert not Decoders((Decoder(None, fake_decoder().tokenizer),)).fit_engines


def test_turned_and_elongated_images_are_the_cpus(tmp_path: Path) -> None:
    assert replace(CLOSE, turn=True).size_for_engines(turned_by_exif()) is None
    assert CLOSE.size_for_engines(turned_by_exif()) is not None
    assert CLOSE.size_for_engines(photo(500, 15, 0)) is None
