"""Pairs to measure on: pictures that cost what photographs cost to decode, under captions from the web."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

SIZE = (512, 384)  # pixels
_DISTINCT = 200  # pictures; a data set repeats them, as nothing looks whether it has seen one before
_OURS = Path(__file__).parent.parent / "data" / "captions_random.jsonl"


@dataclass(frozen=True)
class PairsSpec:
    """A data set of whole shards."""

    shards: int
    pairs_a_shard: int

    @property
    def pairs(self) -> int:
        return self.shards * self.pairs_a_shard


def write_shards(spec: PairsSpec, out: Path) -> list[Path]:
    """WebDataset tars as img2dataset writes them: NNNNN.tar of jpg, txt and json. Same spec, same bytes."""
    out.mkdir(parents=True, exist_ok=True)
    pictures = [("jpg", jpeg(seed)) for seed in range(min(_DISTINCT, spec.pairs))]
    return [write_tar(out / f"{shard:05d}.tar", spec, pictures, shard) for shard in range(spec.shards)]


def write_tar(path: Path, spec: PairsSpec, pictures: Sequence[tuple[str, bytes]], shard: int = 0) -> Path:
    """One of a data set's shards. pictures: (extension, file), of all shards in turn."""
    words = captions()
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for row in range(spec.pairs_a_shard):
            number = shard * spec.pairs_a_shard + row
            key = f"{shard:05d}{row:04d}"
            kind, picture = pictures[number % len(pictures)]
            for extension, content in _files(key, kind, picture, words[number % len(words)]).items():
                info = tarfile.TarInfo(f"{key}.{extension}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return path


def _files(key: str, kind: str, image: bytes, caption: str) -> dict[str, bytes]:
    row = {
        "caption": caption,
        "url": f"https://pictures.example/{key}.{kind}",
        "key": key,
        "status": "success",
        "width": SIZE[0],
        "height": SIZE[1],
        "sha256": hashlib.sha256(image).hexdigest(),
    }
    return {kind: image, "txt": caption.encode(), "json": json.dumps(row).encode()}


@cache
def captions() -> Sequence[str]:
    """Of the Parquet file that CLIPMILL_BENCH_CAPTIONS names (column `caption`), else the 600 of tests/data."""
    if named := os.environ.get("CLIPMILL_BENCH_CAPTIONS"):
        found: list[str] = pq.read_table(named, columns=["caption"])["caption"].to_pylist()
        return found
    return [json.loads(line) for line in _OURS.read_text(encoding="utf-8").split("\n") if line]


def jpeg(seed: int, size: tuple[int, int] = SIZE, quality: int = 85) -> bytes:
    """A picture whose detail falls off with frequency as a photograph's does: noise at every scale, about 45 kB."""
    rng = np.random.default_rng(seed)
    pixels = np.full((size[1], size[0], 3), 128.0, dtype=np.float32)
    for cells, strength in _octaves(size):
        noise = rng.normal(0, strength, (cells[1], cells[0], 3)).clip(-127, 127) + 128
        layer = Image.fromarray(noise.astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)
        pixels += np.asarray(layer, dtype=np.float32) - 128
    file = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=quality)
    return file.getvalue()


def _octaves(size: tuple[int, int]) -> Iterator[tuple[tuple[int, int], float]]:
    """Grids from 1/128 of the size up to all of it; a finer one is fainter."""
    for power in range(7, -1, -1):
        yield (max(1, size[0] >> power), max(1, size[1] >> power)), 3.0 + 5.5 * power
