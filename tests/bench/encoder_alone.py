"""Both towers over one shard, decoded before: the pace that a whole run can reach at most."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from clipmill.clipmodel.weights import Loaded
from clipmill.pipeline.embedding.decode import Decoder
from clipmill.pipeline.embedding.encoder import ClipEncoder, backend_for
from clipmill.pipeline.inputs.shards import read_samples
from clipmill.pipeline.records import Shard
from contenders import Where


def encoder_alone(loaded: Loaded, tar: Path, where: Where) -> Callable[[], float]:
    """Its pairs a second, of all the shard's images and captions; on the CPU, with as many threads as torch has."""
    samples = list(read_samples(Shard(str(tar), tar.stat().st_size)))
    rows = Decoder(loaded.preprocess, loaded.tokenizer).decode_batch(samples)
    pixels, tokens = [row.pixels for row in rows], [row.tokens for row in rows]
    backend = backend_for(loaded.card.config, where.device)
    encoder = ClipEncoder(loaded.model, where.device, where.precision, None, compile_with=backend)

    def rate() -> float:
        started = time.perf_counter()
        encoder.encode(pixels, [])
        encoder.encode([], tokens)
        return len(rows) / (time.perf_counter() - started)

    return rate
