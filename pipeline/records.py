"""The few types that flow through a shard's life: Shard -> Sample -> Decoded -> Embedded -> ShardStats."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Generic, Literal

import numpy as np
import numpy.typing as npt
from typing_extensions import TypeVar

Pixels = npt.NDArray[np.uint8]  # [size, size, 3]
TokenIds = npt.NDArray[np.int32]  # [length], [SOS] and [EOS] included
Vector = npt.NDArray[np.float32]  # [dim], L2-normalised
Vectors = npt.NDArray[np.float32]  # [n, dim], L2-normalised
Positions = npt.NDArray[np.int32]  # of rows in a chunk or a window


@dataclass(frozen=True, slots=True)
class Shard:
    """One input file: the unit of work, of recovery and of commit."""

    url: str
    size: int | None = None  # bytes, where the store tells
    etag: str | None = None  # or the modification time: whatever changes when the content does
    named: str | None = None  # the part's name where the plan has another than the usual one: older names were shorter

    @property
    def part_name(self) -> str:
        """The Parquet part's name: a pure function of URL and plan, so that two workers write the same one."""
        if self.named is not None:
            return self.named
        name = next((part for part in reversed(self.url.split("/")) if part not in ("", ".")), "")
        stem = name.split(".")[0].lstrip("_") or "shard"  # readers pass over _…
        return f"{stem}-{self.digest[:16]}.parquet"

    def __reduce__(self) -> tuple[type[Shard], tuple[str, int | None, str | None, str | None]]:
        """Pickled in a third of the time: the driver sends thousands a second."""
        return Shard, (self.url, self.size, self.etag, self.named)

    @property
    def digest(self) -> str:
        """sha256 of the URL, hexadecimal."""
        return hashlib.sha256(self.url.encode()).hexdigest()


Missing = Literal["no file", "not understood", "empty"]  # why a sample lacks a side
Note = Literal["key came back", "another image", "another caption"]  # what a run tells of samples that it embeds


@dataclass(frozen=True, slots=True)
class Sample:
    """An image-text pair as it stands in the shard, still encoded."""

    row: int  # position in the shard
    key: str
    image: bytes | None = None
    caption: bytes | str | None = None  # the .txt member's bytes, or the text of the json's `caption`
    metadata: dict[str, Any] = field(default_factory=dict)  # the sample's json
    image_offset: int | None = None  # of the image's first byte in the shard file
    error: str | None = None  # `read: …` when the sample cannot be read
    # Why a side is missing, None where it is there. What is there but empty is kept, and counts as missing.
    no_image: Missing | None = None
    no_caption: Missing | None = None
    notes: tuple[Note, ...] = ()


ModelPixels = TypeVar("ModelPixels", default=Pixels)
ModelTokens = TypeVar("ModelTokens", default=TokenIds)


@dataclass(slots=True)
class Decoded(Generic[ModelPixels, ModelTokens]):
    """A sample ready to encode, or the reason why it is not.

    Where models that preprocess in different ways share a pass, pixels and tokens are tuples, one of each for each way.
    """

    row: int
    key: str
    caption: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    image_offset: int | None = None
    image_size: int | None = None  # bytes
    width: int | None = None  # pixels, as decoded
    height: int | None = None
    sha256: str | None = None  # of the image's encoded bytes
    pixels: ModelPixels | None = None
    encoded: bytes | None = None  # instead of pixels: an image that is left to the GPU's JPEG engines
    tokens: ModelTokens | None = None
    caption_tokens: int | None = None  # before truncation at the context length
    error: str | None = None
    half_pair: str | None = None  # which side is missing though both were wanted, and why: `caption: no file`
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds by stage."""

    busy: dict[str, float]  # of the worker; see clock.py
    starved: dict[str, float]  # waited for what comes in
    blocked: dict[str, float]  # waited for room for what goes out


@dataclass(frozen=True)
class Reading:
    """Which process read a shard for a worker, and how it went."""

    reader: int  # its number
    machine: str
    waited: float  # share of its time in which it waited for room behind it


@dataclass(slots=True)
class ShardStats:
    """What became of one shard; travels from the worker to the driver and into the part's footer."""

    url: str
    rows: int = 0
    embedded: int = 0
    failures: Counter[str] = field(default_factory=Counter)  # by reason
    seconds: dict[str, float] = field(default_factory=dict)  # busy by stage, of the worker; `total` of the shard
    part_bytes: int = 0
    starved: dict[str, float] = field(default_factory=dict)  # seconds that a stage waited for what comes in
    blocked: dict[str, float] = field(default_factory=dict)  # and for room for what goes out
    flop: float = 0.0  # of the models, for what was embedded
    peak: float = 0.0  # FLOP a second of the worker's device; 0 where it is not known
    half_pairs: Counter[str] = field(default_factory=Counter)  # embedded rows that lack a side: `caption: no file`
    notes: Counter[str] = field(default_factory=Counter)  # embedded rows by what is to be said of them
    reading: Reading | None = None  # where another process read it

    @property
    def failed(self) -> int:
        return self.rows - self.embedded
