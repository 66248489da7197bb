"""What `dedup` asks of an object store, and of the machine that drives it: the first time, and for 1 % more rows.

A counting proxy with latency stands before a real S3 server (Ceph's; see tests/kit/s3.py), which holds the output; the
dataset lies on this machine's disk. Then the same is done with the output on the disk, too. What is found is compared
with what all pairs of rows say. CLIPMILL_BENCH_ROWS and CLIPMILL_BENCH_FOLDER choose another size, and where the data
go; above 100,000 rows all pairs are left out. Rows of S3 are printed as soon as they are known.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import benchkit
import numpy as np
import pyarrow.parquet as pq
from benchkit import Row, Spread, expect
from grown import LATENCY, Cost, Step

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "kit"))
from clipmill.pipeline.dataset.dataset import Dataset, vectors_of
from clipmill.pipeline.deduplication.components import connect
from made import make_dataset
from proxy import Faults, proxy
from s3 import Bucket, serve

ROWS, DIM, A_PART = 100_000, 512, 5_000
THRESHOLD = 0.95
ALL_PAIRS = 100_000  # rows up to which every row is compared with every other: 10^13 multiplications
_MEMORY_HOLDS = 2_000_000  # rows whose copies fit the S3 server's memory
_TILE = 4096
DEDUP = Step("dedup", {"threshold": THRESHOLD})


def measure(quick: bool) -> list[Row]:
    rows, part = (4_000, 500) if quick else (int(os.environ.get("CLIPMILL_BENCH_ROWS", ROWS)), A_PART)
    with tempfile.TemporaryDirectory(dir=os.environ.get("CLIPMILL_BENCH_FOLDER")) as name:
        folder = Path(name)
        (folder / "s3").mkdir()
        parts = rows // part + 1  # the last is a hundredth of all
        dataset = make_dataset(folder / "in", _Parts(parts, part, rows), dim=DIM)
        _as_embed_writes(folder / "in")
        last = folder / "in/data" / dataset.parts[-1]
        in_memory = rows <= _MEMORY_HOLDS
        with (
            serve(folder / "s3", in_memory) as server,
            proxy(server.endpoint, Faults(latency=0.0 if quick else LATENCY)) as net,
        ):
            bucket = Bucket.fresh(server)
            stored = _grown(last, lambda: DEDUP.on_s3(bucket, net, str(folder / "in"), "out"))
            missed = _missed(bucket, folder / "in") if rows <= ALL_PAIRS else None
        told = (
            "" if missed is None else f"; of rows that have a near one {missed:.3%} were not dropped, as all pairs say"
        )
        on_s3 = _rows(rows, "", *stored, told)
        print(*on_s3, sep="\n", flush=True)
        local = _grown(last, lambda: DEDUP.on_disk(folder / "in", folder / "out"))
    expect([cost.dropped for cost in stored] == [cost.dropped for cost in local], "the same rows are dropped")
    return [*on_s3, *_rows(rows, ", on a disk", *local)]


def _rows(rows: int, where: str, first: Cost, more: Cost, told: str = "") -> list[Row]:
    share = Spread.of([more.seconds / first.seconds])
    return [
        Row(f"dedup of {rows:,} rows{where}", "s", Spread.of([first.seconds]), note=first.note(told)),
        Row(f"dedup of 1 % more{where}", "s", Spread.of([more.seconds]), share=share, note=more.note()),
    ]


def _grown(last: Path, run: Callable[[], Cost]) -> tuple[Cost, Cost]:
    """Without the last part, and with it."""
    aside = last.parents[2] / "later"
    last.rename(aside)
    first = run()
    aside.rename(last)
    return first, run()


@dataclass(frozen=True)
class _Parts:
    """Rows about some thousand directions, 4 % of them near to an earlier one, of these half the same file."""

    count: int
    rows: int
    total: int

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[dict[str, Any]]:
        random = np.random.default_rng(0)
        centres = random.standard_normal((2000, DIM)).astype(np.float32)
        earlier: list[tuple[np.ndarray, list[str]]] = []
        for number in range(self.count):
            rows = self.rows if number < self.count - 1 else self.total // 100
            vectors = centres[random.integers(0, 2000, rows)] + random.standard_normal((rows, DIM)).astype(np.float32)
            vectors = _unit(vectors)
            sums = [random.bytes(32).hex() for _ in range(rows)]
            for place in random.choice(rows, rows // 25, replace=False) if earlier else ():
                others, their_sums = earlier[random.integers(0, len(earlier))]
                other = random.integers(0, len(others))
                if random.random() < 0.5:
                    vectors[place], sums[place] = others[other], their_sums[other]
                else:
                    noise = _unit(random.standard_normal((1, DIM)))[0]
                    vectors[place] = _unit((others[other] + random.uniform(0.05, 0.35) * noise)[None])[0]
            if len(earlier) < 20:
                earlier.append((vectors, sums))
            yield {"image_embedding": vectors, "sha256": sums, "similarity": random.random(rows).astype(np.float32)}


def _unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def _as_embed_writes(folder: Path) -> None:
    for path in (folder / "data").iterdir():
        table = pq.read_table(path)
        pq.write_table(table, path, row_group_size=4096, compression="zstd", use_dictionary=["shard", "error"])


def _missed(bucket: Bucket, folder: Path) -> float:
    """The share of rows that all pairs drop and `dedup` did not. What it dropped must be in a group of all pairs."""
    dataset = Dataset.open(str(folder))
    tables = [dataset.read(part, ["sha256", "image_embedding"]) for part in dataset.parts]
    vectors = _unit(np.concatenate([vectors_of(table["image_embedding"])[0] for table in tables]))
    starts = np.cumsum([0, *map(len, tables)])
    sums = np.concatenate([table["sha256"].to_numpy(zero_copy_only=False) for table in tables])
    _, first_of, which = np.unique(sums, return_index=True, return_inverse=True)
    first = connect(np.arange(len(vectors)), np.stack([np.arange(len(vectors)), first_of[which]], axis=1))
    for start in range(0, len(vectors), _TILE):
        pairs = np.argwhere(vectors[start : start + _TILE] @ vectors[start:].T >= THRESHOLD) + start
        first = connect(first, pairs)
    storage = bucket.storage
    groups = pq.read_table(f"{bucket.name}/out/.clipmill/groups.parquet", filesystem=storage)
    places = dict(zip(dataset.shards(), starts, strict=False))
    rows = np.array([places[shard] for shard in groups["shard"].to_pylist()]) + groups["row"].to_numpy()
    group = groups["group"].to_numpy()
    roots = np.full(group.max() + 1, -1)
    roots[group] = first[rows]
    expect(bool((roots[group] == first[rows]).all()), "a group holds rows that all pairs do not connect")
    wanted = len(vectors) - len(np.unique(first))
    return (wanted - (len(rows) - len(np.unique(group)))) / wanted


if __name__ == "__main__":
    benchkit.main(measure)
