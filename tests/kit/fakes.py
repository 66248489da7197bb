"""Fakes of the seams in the flow of a shard, and small shards to feed it.

Ray's workers get this module by value (see conftest.py), as tests are no installed package.
"""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from clipmill.clipmodel import load
from clipmill.clipmodel.config import PreprocessConfig
from clipmill.clipmodel.preprocess import Preprocess
from clipmill.clipmodel.tokenizer import Tokenizer
from clipmill.clipmodel.vision import Bottleneck
from clipmill.clipmodel.weights import Loaded
from clipmill.jobs.drawn.shards import DrawnSpec
from clipmill.pipeline.dataset.columns import Column
from clipmill.pipeline.dataset.output import Output
from clipmill.pipeline.dataset.part import PartLayout
from clipmill.pipeline.dataset.summary import Summary
from clipmill.pipeline.embedding.chunk import Chunk
from clipmill.pipeline.embedding.decode import Decoder
from clipmill.pipeline.embedding.embed_shard import ShardTools, embed_shard
from clipmill.pipeline.embedding.encoder import ClipEncoder, Encoder, Vectors
from clipmill.pipeline.embedding.shard_reader import ThreadedReader
from clipmill.pipeline.embedding.together import Decoders, Together
from clipmill.pipeline.errors import ModelError, ShardError, UserError
from clipmill.pipeline.records import Decoded, Pixels, Shard, ShardStats, TokenIds, Vector
from PIL import Image

CONTEXT = 12  # tokens
SIDE = 16  # pixels
COLUMNS = (Column("uid"), Column("url"), Column("caption"))


def unit_vector(data: bytes, dim: int) -> Vector:
    """float32 [dim] of length one, another one for other bytes."""
    seed = int.from_bytes(hashlib.sha256(data).digest()[:8], "little")
    vector = np.random.default_rng(seed).standard_normal(dim).astype(np.float32)
    unit: Vector = vector / np.linalg.norm(vector)
    return unit


@dataclass
class FakeEncoder(Encoder):
    """Embeds by hashing. `on_call` sees how many images and texts each call brings, and may raise."""

    dim: int = 8
    on_call: Callable[[int, int], None] = lambda *_: None

    def encode(self, images: Sequence[Pixels], texts: Sequence[TokenIds]) -> tuple[Vectors, Vectors]:
        self.on_call(len(images), len(texts))
        return self._all(images), self._all(texts)

    def _all(self, inputs: Sequence[np.ndarray]) -> Vectors:
        empty = np.empty((0, self.dim), dtype=np.float32)
        return np.concatenate([empty, *(unit_vector(np.asarray(each).tobytes(), self.dim)[None] for each in inputs)])


def fake_decoder(images: bool = True, texts: bool = True) -> Decoder:
    preprocess = Preprocess(SIDE, PreprocessConfig()) if images else None
    tokenizer = Tokenizer(vocab_size=1000, context_length=CONTEXT) if texts else None
    return Decoder(preprocess, tokenizer)


FAKE_LAYOUT = PartLayout(COLUMNS, 8, CONTEXT, "float32")


def threaded(
    decoder: Decoder | Decoders, layout: PartLayout = FAKE_LAYOUT, threads: int = 2, **more: Any
) -> ThreadedReader:
    decoders = decoder if isinstance(decoder, Decoders) else Decoders((decoder,))
    return ThreadedReader(decoders, layout, ThreadPoolExecutor(threads), **more)


def rows_of(chunk: Chunk) -> list[Decoded[Any, Any]]:
    """A chunk's samples one by one, with a tuple of pixels, and one of tokens, for those that have them."""
    rows = [
        Decoded[Any, Any](row["row"], row["key"], row["caption"], error=row["error"])
        for row in chunk.samples.to_pylist()
    ]
    for position, pixels in zip(chunk.pixels_of.tolist(), zip(*chunk.pixels, strict=True), strict=True):
        rows[position].pixels = pixels
    for position, tokens in zip(chunk.tokens_of.tolist(), zip(*chunk.tokens, strict=True), strict=True):
        rows[position].tokens = tokens
    return rows


def fake_tools(
    encoder: Encoder | None = None, *, images: bool = True, texts: bool = True, **changes: Any
) -> ShardTools:
    """Tools that decode for real, to 16 pixels and 12 tokens, and embed by hashing."""
    encoder = encoder or FakeEncoder()
    layout = changes.get("layout", PartLayout(COLUMNS, encoder.dim, CONTEXT, "float32"))
    settings: dict[str, Any] = {
        "encoder": Together(((encoder, 0),)),
        "reader": threaded(fake_decoder(images, texts), layout),
        "layout": layout,
        "provenance": {"made.by": "a test"},
        "images_a_batch": 4,
    }
    return ShardTools(**settings | changes)


def clip_tools(loaded: Loaded, batch_size: int = 32, **changes: Any) -> ShardTools:
    """Tools with a real model, as a worker holds it."""
    preprocess = replace(loaded.preprocess, decoding="close")  # as embed does, if nothing else is said
    own = PartLayout(COLUMNS, loaded.card.config.embed_dim, loaded.tokenizer.context_length)
    layout = changes.get("layout", own)
    settings: dict[str, Any] = {
        "encoder": Together(((ClipEncoder(loaded.model, batch_size=batch_size), 0),)),
        "reader": threaded(Decoder(preprocess, loaded.tokenizer), layout, threads=1),
        "layout": layout,
        "provenance": {},
    }
    return ShardTools(**settings | changes)


@torch.no_grad()
def sharp_model() -> Loaded:
    """`tiny` with random weights, made to tell images apart: fresh from its initialisation, all are within 0.0002."""
    loaded = load("tiny=random:1")
    for module in loaded.model.visual.modules():
        if isinstance(module, Bottleneck):
            module.bn3.weight.fill_(1.0)
    pixels = torch.rand((32, 3, 6, 6), generator=torch.Generator().manual_seed(0)) * 4 - 2
    features = loaded.model.encode_image(torch.nn.functional.interpolate(pixels, size=loaded.preprocess.size))
    bias = loaded.model.get_parameter("visual.attnpool.c_proj.bias")
    bias.sub_(features.mean(dim=0))  # what all images have in common
    return loaded


# --- shards ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Drawn:
    """A data set of drawn pairs on disk."""

    spec: DrawnSpec
    tars: list[Path]

    @property
    def folder(self) -> Path:
        return self.tars[0].parent

    @property
    def shards(self) -> list[Shard]:
        return [Shard(str(tar), tar.stat().st_size) for tar in self.tars]


def jpeg(seed: int = 0, width: int = 24, height: int = 20) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG")
    return file.getvalue()


def write_tar(path: Path, members: Iterable[tuple[str, bytes]]) -> Shard:
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return Shard(str(path), path.stat().st_size)


def write_pairs(path: Path, count: int) -> Shard:
    """Random images with captions of one to seven words; key 00000 and on."""
    members = []
    for i in range(count):
        members.append((f"{i:05d}.jpg", jpeg(i)))
        members.append((f"{i:05d}.txt", " ".join([f"number {i}", *["word"] * (i * 3 % 7)]).encode()))
    return write_tar(path, members)


@dataclass(frozen=True)
class Ran:
    """A run of the main job: where it wrote, what it returned and what it told of on the way."""

    out: Path
    summary: Summary
    events: list[Any]


def files(out: str) -> dict[str, tuple[int, int]]:
    """Name -> when it was written, and its size."""
    found = {path.relative_to(out).as_posix(): path.stat() for path in Path(out).rglob("*") if path.is_file()}
    return {name: (stat.st_mtime_ns, stat.st_size) for name, stat in found.items()}


def parts(out: str | Path) -> list[dict[str, Any]]:
    """The rows of all parts, in the order of their names."""
    return [row for part in sorted(Path(out).glob("data/*.parquet")) for row in pq.read_table(part).to_pylist()]


# --- workers ---------------------------------------------------------------------------------------------------------


def attempt(folder: Path, name: str) -> int:
    """Which try this is, from 1; counted in files, since processes die here."""
    number = 1
    while not _is_new(folder / f"{name}.{number}"):
        number += 1
    return number


def _is_new(path: Path) -> bool:
    try:
        path.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def attempts(folder: Path) -> Counter[str]:
    return Counter(path.stem for path in folder.iterdir())


@dataclass(frozen=True)
class FakeWorkers:
    """A factory of workers that do what the shard is called: `bad-0.tar` is no shard, `flaky-0.tar` fails once.

    `on_start` kinds: "refuses" the model, "dies".
    """

    folder: Path  # where tries are counted
    on_start: str = ""

    def __call__(self) -> FakeWorker:
        if self.on_start == "refuses":
            raise ModelError("no such model here")
        if self.on_start == "dies":
            os._exit(1)
        return FakeWorker(self.folder)


@dataclass
class FakeWorker:
    folder: Path

    def embed(self, shard: Shard, on_rows: Callable[[int, int], None]) -> ShardStats:
        name = PurePosixPath(shard.url).stem
        kind = name.partition("-")[0]
        number = attempt(self.folder, name)
        on_rows(3, 1)
        if kind == "slow":
            time.sleep(1.0)
        if kind == "hung" and number == 1:
            time.sleep(600)
        if kind == "bad":
            raise ShardError(f"{shard.url}: not a tar")
        if kind == "buggy":
            embed_shard(shard, None, None)  # type: ignore[arg-type]
        if kind == "wrong":
            raise UserError("the output is not yours")
        if kind == "broken" or (kind == "flaky" and number == 1):
            raise OSError(5, "the disk hiccups")
        if kind == "poison" or (kind == "deadly" and number == 1):
            os._exit(1)
        return ShardStats(shard.url, 4, 3, Counter({"decode: truncated JPEG": 1}), {"total": 0.5}, 100)


@dataclass(frozen=True)
class FakeFactory:
    """A factory of workers that embed for real with a fake model, and die once, well within a shard."""

    output: Output
    folder: Path  # where deaths are counted

    def __call__(self) -> MortalWorker:
        return MortalWorker(self)


@dataclass
class MortalWorker:
    made_by: FakeFactory
    images: int = 0

    def embed(self, shard: Shard, on_rows: Callable[[int, int], None]) -> ShardStats:
        return embed_shard(shard, fake_tools(FakeEncoder(on_call=self._die_once)), self.made_by.output, on_rows)

    def _die_once(self, images: int, _: int) -> None:
        self.images += images
        if self.images > 20 and attempt(self.made_by.folder, "death") == 1:
            os._exit(1)
