"""What steps fetch of a dataset in an object store, and what is left of the rate that a store allows when it throttles.

A counting proxy stands before a real S3 server (Ceph's; see tests/kit/s3.py). CLIPMILL_BENCH_BEFORE names a folder with
an earlier `clipmill` package, which then does the same. CLIPMILL_BENCH_PARTS and CLIPMILL_BENCH_ALLOWED are other
numbers of parts, and of requests a second.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import overload

import benchkit
import numpy as np
import pyarrow.parquet as pq
from benchkit import Row, Spread, expect

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "kit"))
from clipmill.pipeline.dataset.dataset import Dataset
from clipmill.pipeline.dataset.ledger import ledger
from clipmill.pipeline.dataset.manifest import Manifest
from clipmill.pipeline.dataset.manifest_files import write_manifest
from clipmill.pipeline.dataset.plan import planned_shards
from made import make_dataset, unit_vectors
from proxy import Faults, Proxy, proxy
from readers import read_together
from s3 import Bucket, serve

PARTS, ROWS, DIM = int(os.environ.get("CLIPMILL_BENCH_PARTS", 20)), 9_500, 512  # parts of 20 MB
WINDOW = 4096  # rows a row group, as in parts that `embed` writes
ALLOWED, SECONDS = float(os.environ.get("CLIPMILL_BENCH_ALLOWED", 100)), 30.0  # requests a second, for so long
PROCESSES, THREADS = 4, 16

STEPS: Mapping[str, Sequence[str]] = {
    "filter --top-fraction": ("filter", "OUT", "-o", "LOCAL/subset", "--top-fraction", "0.3"),
    "report": ("report", "OUT", "-o", "LOCAL/report.html"),
    "dedup, equal files only": ("dedup", "OUT", "-o", "LOCAL/unique", "--no-near"),
    "status": ("status", "OUT"),
}


def measure(quick: bool) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder, serve(_new(folder, "s3")) as server:
        with proxy(server.endpoint) as net:
            rows = _fetched(Bucket.fresh(server), net, Path(folder), (2, 500) if quick else (PARTS, ROWS))
        with proxy(server.endpoint) as net:
            rows.append(_throttled(Bucket.fresh(server), net, 3.0 if quick else SECONDS))
    return rows


def _new(folder: str, name: str) -> Path:
    path = Path(folder) / name
    path.mkdir()
    return path


def _fetched(bucket: Bucket, net: Proxy, folder: Path, size: tuple[int, int]) -> list[Row]:
    total = _fill(bucket, folder, *size)
    earlier = os.environ.get("CLIPMILL_BENCH_BEFORE")
    rows = []
    for name, command in STEPS.items():
        requests, fetched = _run(bucket, net, folder / "ours", command)
        note = f"{requests:,} requests; {size[0]} parts of {total / size[0] / 1e6:.1f} MB"
        against = {}
        if earlier:
            before, bytes_before = _run(bucket, net, folder / "before", command, earlier)
            note += f"; before {before:,} requests, {bytes_before / 1e6:,.1f} MB"
            against = {"before": Spread.of([bytes_before / fetched])}
        rows.append(Row(f"{name}: fetched", "MB", Spread.of([fetched / 1e6]), against=against, note=note))
    return rows


def _fill(bucket: Bucket, folder: Path, parts: int, rows: int) -> int:
    """Put a dataset into the bucket; the bytes of its parts."""
    dataset = make_dataset(folder / "made", Parts(parts, rows), dim=DIM)
    for path in sorted((folder / "made" / "data").iterdir()):
        table = pq.read_table(path)
        pq.write_table(
            table, path, row_group_size=WINDOW, compression="zstd", use_dictionary=["shard", "error"],
        )  # fmt: skip
    output = dataset.output
    write_manifest(output, ledger(output, planned_shards(output), Manifest.of()))
    for path in sorted(path for path in (folder / "made").rglob("*") if path.is_file()):
        bucket.storage.put_file(str(path), bucket.url(f"out/{path.relative_to(folder / 'made')}"))
    return sum(Dataset.open(str(folder / "made")).sizes)


class Parts(Sequence[Mapping[str, object]]):
    """Columns of each part, drawn when they are asked for."""

    def __init__(self, count: int, rows: int) -> None:
        self._count, self._rows = count, rows

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, number: int) -> Mapping[str, object]: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[Mapping[str, object]]: ...
    def __getitem__(self, number: int | slice) -> Mapping[str, object] | Sequence[Mapping[str, object]]:
        if isinstance(number, slice):
            return [self[each] for each in range(*number.indices(self._count))]
        if not 0 <= number < self._count:
            raise IndexError(number)
        random, rows = np.random.default_rng(number), self._rows
        return {
            "similarity": random.normal(0.25, 0.05, rows).astype(np.float32),
            "sha256": [random.bytes(32).hex() for _ in range(rows)],
            "caption": [f"a picture of {word}" for word in random.integers(0, 100_000, rows)],
            "url": [f"https://example.org/{number}/{word}.jpg" for word in random.integers(0, 1 << 40, rows)],
            "image_embedding": unit_vectors(2 * number, rows, DIM),
            "text_embedding": unit_vectors(2 * number + 1, rows, DIM),
        }


def _run(bucket: Bucket, net: Proxy, local: Path, command: Sequence[str], earlier: str = "") -> tuple[int, int]:
    """Requests, and bytes of their answers, of one command in a process of its own."""
    places = {"OUT": bucket.url("out")}
    words = [places.get(word, word).replace("LOCAL/", f"{local}/") for word in command]
    environment = os.environ | bucket.server.environment(net.endpoint) | ({"PYTHONPATH": earlier} if earlier else {})
    net.seen.clear()
    ended = subprocess.run(
        [sys.executable, "-m", "clipmill.jobs.cli", *words],
        env=environment,
        cwd=local.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    expect(ended.returncode == 0, f"{' '.join(words)}: {ended.stderr[-1000:]}")
    return len(net.seen), net.bytes()


def _throttled(bucket: Bucket, net: Proxy, seconds: float) -> Row:
    urls = [bucket.url(f"in/{number}") for number in range(64)]
    for url in urls:
        bucket.storage.pipe_file(url, b"a" * 1000)
    net.faults = Faults(allowed=ALLOWED)
    read = read_together(PROCESSES, THREADS, seconds, bucket.server.options(net.endpoint), urls)
    failures = [failure for each in read for failure in each.failures]
    expect(not failures, f"throttled requests failed: {failures[:3]}")
    let_through, throttled = net.count(status=206) + net.count(status=200), net.count(status=503)
    began, ended = net.seen[0].at, net.seen[0].at + seconds
    at_first = sum(each.at < began + 1 for each in net.seen)
    rate = sum(each.at < ended and each.status != 503 for each in net.seen) / seconds
    return Row(
        f"{PROCESSES * THREADS} readers in {PROCESSES} processes of a store that throttles",
        "requests/s",
        Spread.of([rate]),
        Spread.of([ALLOWED]),
        "what it allows",
        Spread.of([rate / ALLOWED]),
        note=f"no failure; {throttled / (throttled + let_through):.0%} were throttled, {at_first} asked in the first "
        "second",
    )


if __name__ == "__main__":
    benchkit.main(measure)
