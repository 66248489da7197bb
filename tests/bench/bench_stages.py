"""What a pair costs a core beside the encoder, at 224 pixels and 512 numbers: the cores that a GPU needs beside it."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import benchkit
import numpy as np
import stages
from benchkit import Row, Spread
from clipmill.clipmodel.config import Decoding
from clipmill.clipmodel.preprocess import Preprocess
from clipmill.clipmodel.tokenizer import Tokenizer
from clipmill.pipeline.embedding.decode import Decoder
from clipmill.pipeline.embedding.encoder import Encoder, Vectors
from clipmill.pipeline.records import Pixels, TokenIds
from web_pairs import PairsSpec, write_shards

DECODING: Decoding = "close"  # as `clipmill embed` does where it is not told otherwise
ROUNDS = 5
STAGES = {"read": "read", "decode": "decode and tokenise", "write": "write"}


class Elsewhere(Encoder):
    """Stands for a device that costs no core anything."""

    dim = 512

    def encode(self, images: Sequence[Pixels], texts: Sequence[TokenIds]) -> tuple[Vectors, Vectors]:
        rng = np.random.default_rng(0)
        drawn = [rng.standard_normal((len(each), self.dim), dtype=np.float32) for each in (images, texts)]
        unit = [each / np.linalg.norm(each, axis=1, keepdims=True) for each in drawn]
        return unit[0], unit[1]


def measure(quick: bool) -> list[Row]:
    spec = PairsSpec(1, 20 if quick else 1000)
    with tempfile.TemporaryDirectory() as folder:
        (tar,) = write_shards(spec, Path(folder) / "shards")
        decoder = Decoder(Preprocess(224, decoding=DECODING), Tokenizer())
        rounds = 2 if quick else ROUNDS + 1
        found = [stages.costs(tar, decoder, Elsewhere(), Path(folder)) for _ in range(rounds)][1:]  # warm
        size = tar.stat().st_size / spec.pairs
    note = f"{size / 1000:.0f} kB a pair"
    rows = [_row(what, [1 / each[stage] for each in found], note) for stage, what in STAGES.items()]
    return [*rows, _row("read to write", [1 / sum(each[stage] for stage in STAGES) for each in found], note)]


def _row(what: str, rates: list[float], note: str) -> Row:
    return Row(f"one core, beside the encoder: {what}", "pairs/core-second", Spread.of(rates), note=note)


if __name__ == "__main__":
    benchkit.main(measure)
