"""Several models in one pass: each sample is read once, decoded once for each way of preprocessing, and gets the
embeddings of all models, end to end in one vector. `PartLayout` cuts it into columns again."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np

from ..records import Decoded, Pixels, Sample, TokenIds, Vectors
from .decode import Decoder
from .encoder import Encoder

PixelsOfAll = tuple[Pixels, ...]  # one for each way of preprocessing
TokensOfAll = tuple[TokenIds, ...]  # one for each tokenizer


@dataclass(frozen=True)
class Decoders:
    """One row for each sample, with pixels and tokens of each decoder."""

    decoders: tuple[Decoder, ...]

    def decode_batch(
        self, samples: Sequence[Sample], pool: Executor | None = None
    ) -> list[Decoded[PixelsOfAll, TokensOfAll]]:
        """A row that fails for one of them fails: what is in a dataset has all of its embeddings."""
        results = [decoder.decode_batch(samples, pool) for decoder in self.decoders]
        return [_merged(rows) for rows in zip(*results, strict=True)]


def _merged(rows: Sequence[Decoded]) -> Decoded[PixelsOfAll, TokensOfAll]:
    error = next((row.error for row in rows if row.error is not None), None)
    pixels = tuple(row.pixels for row in rows if row.pixels is not None) if error is None else ()
    tokens = tuple(row.tokens for row in rows if row.tokens is not None) if error is None else ()
    fields = {name: getattr(rows[0], name) for name in Decoded.__dataclass_fields__}
    return Decoded(**{**fields, "pixels": pixels or None, "tokens": tokens or None, "error": error})


@dataclass(frozen=True)
class Together:
    """An `Encoder` of several. Each takes the output of the decoder whose number stands beside it."""

    encoders: tuple[tuple[Encoder, int], ...]

    @property
    def dim(self) -> int:
        return sum(encoder.dim for encoder, _ in self.encoders)

    def encode(self, images: Sequence[PixelsOfAll], texts: Sequence[TokensOfAll]) -> tuple[Vectors, Vectors]:
        """As `Encoder.encode`; each model's part of a vector is of length one."""
        results = [
            encoder.encode([image[k] for image in images], [text[k] for text in texts]) for encoder, k in self.encoders
        ]
        return np.concatenate([r[0] for r in results], axis=1), np.concatenate([r[1] for r in results], axis=1)
