"""The models of one pass, one or several: each sample is read once, decoded once for each way of preprocessing, and
gets the embeddings of all models, end to end in one vector. `PartLayout` cuts it into columns again."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...clipmodel.preprocess import Preprocess
from ..records import Decoded, Pixels, Sample, TokenIds, Vectors
from .decode import Decoder
from .encoder import Encoder

Images = Sequence[Pixels]
Texts = Sequence[TokenIds]
PixelsOfAll = tuple[Pixels, ...]  # one for each way of preprocessing
TokensOfAll = tuple[TokenIds, ...]  # one for each tokenizer


@dataclass(frozen=True)
class Decoders:
    """One row for each sample, with pixels and tokens of each decoder."""

    decoders: tuple[Decoder, ...]

    @property
    def fit_engines(self) -> bool:
        """Whether JPEGs can be left to a GPU's engines for all of them."""
        return len(self.ways) == len(self.decoders) and all(way.fits_engines for way in self.ways)

    @property
    def ways(self) -> list[Preprocess]:
        """Our own ones of preprocessing."""
        own = (decoder.preprocess for decoder in self.decoders)
        return [way for way in own if isinstance(way, Preprocess)]

    def leaving_jpegs(self) -> Decoders:
        """The same, but JPEGs that a GPU's engines decode stay encoded."""
        return Decoders(tuple(replace(decoder, engines=True) for decoder in self.decoders))

    @property
    def leave_jpegs(self) -> bool:
        return any(decoder.engines for decoder in self.decoders)

    def decode_batch(
        self, samples: Sequence[Sample], pool: Executor | None = None
    ) -> list[Decoded[PixelsOfAll, TokensOfAll]]:
        """A row that fails for one of them fails: what is in a dataset has all of its embeddings."""
        results = [decoder.decode_batch(samples, pool) for decoder in self.decoders]
        return [_merged(rows) for rows in zip(*results, strict=True)]


def _merged(rows: Sequence[Decoded[Any, Any]]) -> Decoded[PixelsOfAll, TokensOfAll]:
    """All of them in the first one."""
    first = rows[0]
    error = next((row.error for row in rows if row.error is not None), None)
    pixels = tuple(row.pixels for row in rows if row.pixels is not None) if error is None else ()
    tokens = tuple(row.tokens for row in rows if row.tokens is not None) if error is None else ()
    first.pixels, first.tokens, first.error = pixels or None, tokens or None, error
    first.encoded = first.encoded if error is None else None
    return first


@dataclass(frozen=True)
class Together:
    """An encoder of several, or of one. Each takes the output of the decoder whose number stands beside it."""

    encoders: tuple[tuple[Encoder, int], ...]

    @property
    def dim(self) -> int:
        return sum(encoder.dim for encoder, _ in self.encoders)

    def encode(self, images: Sequence[Images], texts: Sequence[Texts]) -> tuple[Vectors, Vectors]:
        """As `Encoder.encode`, of what each decoder made; each model's part of a vector is of length one."""
        results = [
            encoder.encode(images[k] if images else [], texts[k] if texts else []) for encoder, k in self.encoders
        ]
        return np.concatenate([r[0] for r in results], axis=1), np.concatenate([r[1] for r in results], axis=1)
