"""What a pair costs a core from the bytes of a shard to the buffer that travels to a GPU with JPEG engines.

Everything that the processes beside such a GPU do: reading the tar, grouping, parsing the json, hashing, looking at the
JPEG's structure, tokenising, columns, and one copy of it all as Ray's object store makes it. The limit is hashing the
images alone.
"""

from __future__ import annotations

import hashlib
import pickle
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import benchkit
import web_pairs
from benchkit import Row, expect
from clipmill.clipmodel.preprocess import Preprocess
from clipmill.clipmodel.tokenizer import Tokenizer
from clipmill.pipeline.dataset.columns import DEFAULT_COLUMNS
from clipmill.pipeline.dataset.part import PartLayout
from clipmill.pipeline.embedding.clock import Clock
from clipmill.pipeline.embedding.decode import Decoder
from clipmill.pipeline.embedding.shard_reader import ThreadedReader
from clipmill.pipeline.embedding.together import Decoders
from clipmill.pipeline.inputs.shards import read_samples
from clipmill.pipeline.records import Shard

ROUNDS = 5


def measure(quick: bool) -> list[Row]:
    decoders = Decoders((Decoder(Preprocess(224, decoding="close"), Tokenizer()),)).leaving_jpegs()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(1) as pool:
        spec = web_pairs.PairsSpec(1, 64 if quick else 4000)
        (tar,) = web_pairs.write_shards(spec, Path(folder))
        shard = Shard(str(tar), tar.stat().st_size)
        reader = ThreadedReader(decoders, PartLayout(DEFAULT_COLUMNS, 512, 77), pool)
        images = [sample.image or b"" for sample in read_samples(shard)]
        calls: dict[str, Callable[[], int]] = {
            "all": partial(_read, reader, shard),
            "tar alone": lambda: sum(1 for _ in read_samples(shard)),
            "hashing alone": lambda: sum(bool(hashlib.sha256(image).hexdigest()) for image in images),
        }
        expect(calls["all"]() == spec.pairs, "pairs were lost on the way")
        rates = benchkit.in_turn({name: partial(_rate, call) for name, call in calls.items()}, 1 if quick else ROUNDS)
    note = f"{sum(map(len, images)) / len(images) / 1000:.0f} kB each"
    row = {"ours": rates["all"], "tar alone": rates["tar alone"]}
    what = "read for a GPU's engines: bytes to buffer, one core"
    limit = rates["hashing alone"]
    return [benchkit.compared(what, "pairs/s", row, limit=limit, limit_is="hashing alone", note=note)]


def _read(reader: ThreadedReader, shard: Shard) -> int:
    pairs = 0
    with reader.decoded(shard, Clock()) as chunks:
        for chunk in chunks:
            buffers: list[pickle.PickleBuffer] = []
            pickle.dumps(chunk, protocol=5, buffer_callback=buffers.append)
            for buffer in buffers:
                bytes(buffer.raw())  # the copy into shared memory
            pairs += len(chunk)
            assert len(chunk.encoded) == len(chunk)
    return pairs


def _rate(call: Callable[[], int]) -> float:
    started = time.process_time()
    return call() / (time.process_time() - started)


if __name__ == "__main__":
    benchkit.main(measure)
