"""What each stage of a shard's way costs on one core, alone; what all of them together allow is the ceiling."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from clipmill.pipeline.dataset.columns import DEFAULT_COLUMNS
from clipmill.pipeline.dataset.part import Embeddings, PartLayout, PartWriter
from clipmill.pipeline.embedding.decode import Decoder
from clipmill.pipeline.embedding.encoder import Encoder
from clipmill.pipeline.inputs.shards import read_samples
from clipmill.pipeline.records import Shard, Vectors

Costs = dict[str, float]  # stage -> core-seconds a pair

_CONTEXT = 77


def costs(tar: Path, decoder: Decoder, encoder: Encoder, scratch: Path) -> Costs:
    """Of one shard whose pairs are whole, stage by stage. Sets torch to one thread."""
    torch.set_num_threads(1)
    spent: Costs = {}

    def timed(stage: str, call: Callable[[], Any]) -> Any:
        started = time.process_time()
        answer = call()
        spent[stage] = time.process_time() - started
        return answer

    shard = Shard(str(tar), tar.stat().st_size)
    with ThreadPoolExecutor(1) as pool:
        samples = timed("read", lambda: list(read_samples(shard)))
        rows = timed("decode", lambda: decoder.decode_batch(samples, pool))
    pixels, tokens = [row.pixels for row in rows], [row.tokens for row in rows]
    images, _ = timed("image", lambda: encoder.encode(pixels, []))
    _, texts = timed("text", lambda: encoder.encode([], tokens))
    layout = PartLayout(DEFAULT_COLUMNS, encoder.dim, _CONTEXT)

    def write() -> None:
        with PartWriter(scratch / "part.parquet", layout.schema) as part:
            part.write(layout.table(shard, layout.samples(rows), _all(images), _all(texts)))
            part.finish({})

    timed("write", write)
    return {stage: seconds / len(rows) for stage, seconds in spent.items()}


def _all(vectors: Vectors) -> Embeddings:
    return Embeddings(vectors, np.zeros(len(vectors), np.bool_))


def described(found: Costs) -> str:
    return ", ".join(f"{stage} {1000 * seconds:.1f}" for stage, seconds in found.items()) + " ms a pair"
