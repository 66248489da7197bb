"""Five hundred shards and images, damaged at random: none ends a run, what can be read is embedded, and the rest are
failed rows with a reason.

CLIPMILL_FUZZ: how many. CLIPMILL_FUZZ_SEED: of the first; the n-th one's is n more, which a failure names.
"""

from __future__ import annotations

import io
import os
import random
import tarfile
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from clipmill.clipmodel.preprocess import MAX_PIXELS
from clipmill.pipeline.dataset.output import Output
from clipmill.pipeline.embedding.embed_shard import ShardTools, embed_shard
from clipmill.pipeline.errors import ShardError
from clipmill.pipeline.records import Shard
from fakes import fake_tools, write_tar
from PIL import Image

COUNT = int(os.environ.get("CLIPMILL_FUZZ", "500"))
SEED = int(os.environ.get("CLIPMILL_FUZZ_SEED", "0"))
TOGETHER = 25  # damaged images in one tar

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM")

Rows = list[dict[str, Any]]


# --- ways to damage bytes --------------------------------------------------------------------------------------------


def flipped(data: bytes, chance: random.Random) -> bytes:
    damaged = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 8, 40))):
        damaged[chance.randrange(len(data))] ^= chance.randrange(1, 256)
    return bytes(damaged)


def flipped_early(data: bytes, chance: random.Random) -> bytes:
    """Where headers are."""
    return flipped(data[:64], chance) + data[64:]


def cut_short(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.randrange(len(data))]


def overwritten(data: bytes, chance: random.Random) -> bytes:
    at, size = a_run(data, chance)
    return data[:at] + chance.choice((bytes(size), chance.randbytes(size))) + data[at + size :]


def without_a_run(data: bytes, chance: random.Random) -> bytes:
    at, size = a_run(data, chance)
    return data[:at] + data[at + size :]


def with_a_run_more(data: bytes, chance: random.Random) -> bytes:
    at, size = a_run(data, chance)
    return data[:at] + chance.choice((data[at : at + size], chance.randbytes(size))) + data[at:]


def a_run(data: bytes, chance: random.Random) -> tuple[int, int]:
    return chance.randrange(len(data)), chance.choice((1, 3, 16, 100, 512, 1024))


ANYWHERE = (flipped, flipped_early, cut_short, overwritten, without_a_run, with_a_run_more)


def header_changed(data: bytes, chance: random.Random) -> bytes:
    """One byte of a random member's header."""
    member = chance.choice(members(data))
    at = member.offset_data - 512 + chance.randrange(512)
    return data[:at] + bytes([data[at] ^ chance.randrange(1, 256)]) + data[at + 1 :]


def size_changed(data: bytes, chance: random.Random) -> bytes:
    """A member's size, with a checksum that fits."""
    at = chance.choice(members(data)).offset_data - 512
    header = bytearray(data[at : at + 512])
    header[124:136] = b"%011o\0" % chance.choice((0, 1, 511, 513, 5000, 1 << 20, (1 << 33) - 1))
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return data[:at] + bytes(header) + data[at + 512 :]


def blocks_swapped(data: bytes, chance: random.Random) -> bytes:
    one, other = (512 * chance.randrange(len(data) // 512) for _ in range(2))
    blocks = bytearray(data)
    blocks[one : one + 512], blocks[other : other + 512] = data[other : other + 512], data[one : one + 512]
    return bytes(blocks)


IN_TARS = (*ANYWHERE, header_changed, header_changed, size_changed, blocks_swapped)


def members(tar: bytes) -> list[tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(tar)) as file:
        return file.getmembers()


# --- what is damaged -------------------------------------------------------------------------------------------------


@cache
def images() -> tuple[tuple[str, bytes], ...]:
    """(extension, an image) in many formats."""
    pixels = np.random.default_rng(0).integers(0, 256, (20, 28, 3), dtype=np.uint8)
    kinds: list[tuple[str, dict[str, Any]]] = [
        ("jpg", {"format": "JPEG"}),
        ("jpg", {"format": "JPEG", "progressive": True, "quality": 60}),
        ("png", {"format": "PNG"}),
        ("webp", {"format": "WEBP"}),
        ("webp", {"format": "WEBP", "lossless": True}),
        ("gif", {"format": "GIF"}),
        ("bmp", {"format": "BMP"}),
        ("tif", {"format": "TIFF", "compression": "tiff_lzw"}),
        ("tif", {"format": "TIFF"}),
    ]
    result = []
    for extension, options in kinds:
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, **options)
        result.append((extension, file.getvalue()))
    return tuple(result)


@cache
def intact(number: int) -> bytes:
    """One of a few tars of six samples: all of tar's formats, long names, sidecars."""
    form = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)[number % 3]
    folder = "a folder/" if number < 3 else "a folder with a name that is so long " * 3 + "/"
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as tar:
        for i in range(6):
            extension, image = images()[(i + number) % len(images())]
            sample = {extension: image, "txt": f"picture {i} of {number}".encode(), "json": b'{"uid": "u%d"}' % i}
            for extension, content in sample.items():
                info = tarfile.TarInfo(f"{folder if i % 2 else ''}{i:05d}.{extension}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return file.getvalue()


# --- what has to be true ---------------------------------------------------------------------------------------------


def embedded(shard: Shard, tools: ShardTools, folder: Path) -> Rows:
    """The rows of its part, which account for all samples. ShardError leaves no part."""
    output = Output.at(str(folder / "out"))
    part = folder / "out" / "data" / shard.part_name
    try:
        stats = embed_shard(shard, tools, output)
    except ShardError:
        assert not part.exists()
        raise
    rows: Rows = pq.read_table(part).to_pylist()
    part.unlink()
    assert [row["row"] for row in rows] == list(range(len(rows)))
    assert (stats.rows, stats.embedded) == (len(rows), sum(row["error"] is None for row in rows))
    for row in rows:
        has = [row["image_embedding"] is not None, row["text_embedding"] is not None]
        assert any(has) if row["error"] is None else not any(has) and ": " in row["error"]
    return rows


def unharmed(before: bytes, after: bytes) -> list[int]:
    """The samples of a tar of which no byte has changed, nor a byte that says where they are."""
    spans: dict[str, list[tarfile.TarInfo]] = {}
    for member in members(before):
        spans.setdefault(member.name.partition(".")[0], []).append(member)
    common = min(len(before), len(after))
    changed = np.flatnonzero(np.frombuffer(before[:common], np.uint8) != np.frombuffer(after[:common], np.uint8))
    first = int(changed[0]) if len(changed) else common

    def touched(member: tarfile.TarInfo) -> bool:
        return bool(np.any((changed >= member.offset_data) & (changed < member.offset_data + member.size)))

    data = sum(np.sum((changed >= m.offset_data) & (changed < m.offset_data + m.size)) for m in members(before))
    if len(before) == len(after) and data == len(changed):  # contents only: every other sample is where it was
        return [i for i, sample in enumerate(spans.values()) if not any(map(touched, sample))]
    return [i for i, sample in enumerate(spans.values()) if sample[-1].offset_data + sample[-1].size <= first]


def readable(image: bytes) -> bool:
    """Whether Pillow decodes it, and it is within the limit of pixels."""
    if not image:
        return False
    try:
        with warnings.catch_warnings(), Image.open(io.BytesIO(image), formats=FORMATS) as opened:
            warnings.simplefilter("ignore")
            if opened.width * opened.height > MAX_PIXELS:
                return False
            opened.load()
            opened.convert("RGB")
    except Exception:
        return False
    return True


@pytest.fixture(scope="module")
def tools() -> ShardTools:
    return fake_tools(images_a_batch=32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Output.at(str(tmp_path / "out")).prepare()
    return tmp_path


def damages(kinds: Sequence[Callable[..., bytes]], share: int) -> list[tuple[int, random.Random, Callable[..., bytes]]]:
    """(seed, chance, damage) for a part of all cases."""
    seeds = range(SEED + share, SEED + COUNT, 2)
    return [(seed, random.Random(seed), kinds[seed // 2 % len(kinds)]) for seed in seeds]


def test_tars_damaged_at_random(tools: ShardTools, folder: Path) -> None:
    path = folder / "x.tar"
    undamaged: dict[int, Rows] = {}
    for number in range(6):
        path.write_bytes(intact(number))
        undamaged[number] = embedded(Shard(str(path)), tools, folder)
        assert [row["error"] for row in undamaged[number]] == [None] * 6
    for seed, chance, damage in damages(IN_TARS, 0):
        number = chance.randrange(6)
        damaged = damage(intact(number), chance)
        path.write_bytes(damaged)
        safe = unharmed(intact(number), damaged)
        try:
            rows = embedded(Shard(str(path)), tools, folder)
        except ShardError as error:
            assert not safe, f"seed {seed}, {damage.__name__}: {error}"
            continue
        for i in safe:
            assert i < len(rows) and rows[i] == undamaged[number][i], f"seed {seed}, {damage.__name__}, sample {i}"


def test_images_damaged_at_random(tools: ShardTools, folder: Path) -> None:
    cases = damages(ANYWHERE, 1)
    for at in range(0, len(cases), TOGETHER):
        samples = []
        for seed, chance, damage in cases[at : at + TOGETHER]:
            extension, image = chance.choice(images())
            samples.append((seed, damage.__name__, extension, damage(image, chance)))
        shard = write_tar(folder / f"{at}.tar", [(f"{seed}.{end}", data) for seed, _, end, data in samples])
        rows = embedded(shard, tools, folder)
        for row, (seed, name, _, data) in zip(rows, samples, strict=True):
            assert row["key"] == str(seed)
            assert (row["error"] is None) == readable(data), f"seed {seed}, {name}: {row['error']}"
