"""Several models in one pass: each sample is read once, decoded once for each way of preprocessing, and gets the
embeddings of all of them, end to end in one vector. `parquet.PartLayout` cuts it into columns again."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..records import Decoded, Sample, Vectors
from .decode import Decoder
from .encoder import Encoder


@dataclass(frozen=True)
class Decoders:
    """One row for each sample, whose pixels and tokens are tuples: one of each for each decoder."""

    each: tuple[Decoder, ...]

    def decode_batch(self, samples: Sequence[Sample], pool: Executor | None = None) -> list[Decoded]:
        """A row that fails for one of them fails: what is in a dataset has all of its embeddings."""
        results = [decoder.decode_batch(samples, pool) for decoder in self.each]
        return [_merged(rows) for rows in zip(*results, strict=True)]


def _merged(rows: Sequence[Decoded]) -> Decoded:
    row = rows[0]
    pixels = [each.pixels for each in rows if each.pixels is not None]
    tokens = [each.tokens for each in rows if each.tokens is not None]
    row.error = next((each.error for each in rows if each.error is not None), None)
    opaque: Any = row  # nobody but `Together` looks into these
    opaque.pixels = tuple(pixels) if row.error is None and pixels else None
    opaque.tokens = tuple(tokens) if row.error is None and tokens else None
    return row


@dataclass(frozen=True)
class Together:
    """Encoders, each with the number of the decoder whose output it takes."""

    each: tuple[tuple[Encoder, int], ...]

    @property
    def dim(self) -> int:
        return sum(encoder.dim for encoder, _ in self.each)

    def encode(self, images: Sequence[Any], texts: Sequence[Any]) -> tuple[Vectors, Vectors]:
        """As `Encoder.encode`, over tuples; each model's part of a vector is of length one."""
        results = [
            encoder.encode([image[k] for image in images], [text[k] for text in texts]) for encoder, k in self.each
        ]
        return np.concatenate([r[0] for r in results], axis=1), np.concatenate([r[1] for r in results], axis=1)
