"""What `filter`, `report` and `index` cost when a dataset has grown by 1 %, beside the first time; and when nothing is
new.

On object storage, where a counting proxy with latency stands before a real S3 server (Ceph's; see tests/kit/s3.py), and
on a disk. Each step begins with the parts alone. CLIPMILL_BENCH_ROWS and CLIPMILL_BENCH_FOLDER choose another size, and
where the data go; CLIPMILL_BENCH_STEPS names the steps. `dedup` has a benchmark of its own. Rows are printed as they
come: 10^7 take a quarter of an hour for filter and report, and 40 GB of disk.

How many parts of a subset lose or get a row when its threshold moves is chance. The new parts are those that change a
median number of them, of those that make the threshold fall, which costs more than if it rises.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from typing import Any, Protocol

import benchkit
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from benchkit import Row, Spread, expect
from grown import LATENCY, Cost, Step

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "kit"))
from clipmill.pipeline.dataset.dataset import Dataset
from clipmill.pipeline.dataset.layout import REPORT
from clipmill.pipeline.dataset.ledger import ledger
from clipmill.pipeline.dataset.manifest import Manifest
from clipmill.pipeline.dataset.manifest_files import write_manifest
from clipmill.pipeline.dataset.narrow import NARROW
from clipmill.pipeline.dataset.output import Output
from clipmill.pipeline.dataset.plan import planned_shards
from made import make_dataset
from proxy import Faults, Proxy, proxy
from s3 import Bucket, serve

ROWS, DIM, A_PART = 1_000_000, 512, 10_000
DIRECTIONS = 1000  # about which the embeddings lie
SHARE = 0.3  # that the filter keeps
DRAWS = 33  # of new parts
_MEMORY_HOLDS = 1_000_000  # rows that fit the S3 server's memory
STEPS = {
    "filter": Step("filter", {"top_fraction": SHARE}),
    "report": Step("report", {}),
    "index": Step("index", {"kind": "ivf"}),
}


@dataclass(frozen=True)
class _Parts:
    """Rows as `embed` writes them, captions and URLs included."""

    count: int
    rows: int  # of each

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[dict[str, Any]]:
        random = np.random.default_rng(0)
        centres = random.standard_normal((DIRECTIONS, DIM)).astype(np.float32)
        words = pa.array([f"word{number}" for number in range(5000)])
        for _ in range(self.count):
            rows = self.rows
            noise = random.standard_normal((rows, DIM), dtype=np.float32)
            vectors = centres[random.integers(0, DIRECTIONS, rows)] + noise
            sums = random.bytes(32 * rows).hex()
            texts = [words.take(pa.array(random.integers(0, len(words), rows))) for _ in range(8)]
            urls = [f"https://pictures.example/{sums[64 * row : 64 * row + 40]}.jpg" for row in range(rows)]
            yield {
                "image_embedding": vectors / np.linalg.norm(vectors, axis=1, keepdims=True),
                "similarity": random.normal(0.25, 0.06, rows).astype(np.float32),
                "sha256": [sums[64 * row : 64 * row + 64] for row in range(rows)],
                "caption": pc.binary_join_element_wise(*texts, " ").to_pylist(),
                "url": urls,
                "width": random.integers(200, 2000, rows).astype(np.int32),
                "height": random.integers(200, 2000, rows).astype(np.int32),
            }


class _Place(Protocol):
    """Where the dataset is, and what is made of it."""

    def begin(self) -> None:
        """Without the new parts, and without what earlier runs have kept."""

    def grow(self) -> None:
        """With them."""

    def run(self, step: Step) -> Cost: ...


@dataclass(frozen=True)
class _OnDisk:
    folder: Path
    new: tuple[str, ...]  # parts

    @property
    def later(self) -> Path:
        """Where they are until the dataset grows."""
        return self.folder / "later"

    @property
    def dataset(self) -> Path:
        return self.folder / "in"

    def begin(self) -> None:
        for cache in (NARROW, REPORT):
            rmtree(self.dataset / cache, ignore_errors=True)
        self.later.mkdir(exist_ok=True)
        for part in self.new:
            if (path := self.dataset / "data" / part).exists():
                path.rename(self.later / part)
        _tell(Output.at(str(self.dataset)))

    def grow(self) -> None:
        for part in self.new:
            (self.later / part).rename(self.dataset / "data" / part)
        _tell(Output.at(str(self.dataset)))

    def run(self, step: Step) -> Cost:
        return step.on_disk(self.dataset, self.folder / _out(step))


@dataclass(frozen=True)
class _OnS3:
    bucket: Bucket
    net: Proxy
    disk: _OnDisk  # has the new parts, too

    @property
    def _output(self) -> Output:
        return Output.at(self.bucket.url("in"), self.bucket.server.options())

    def begin(self) -> None:
        for path in (*(f"data/{part}" for part in self.disk.new), NARROW, REPORT):
            if self.bucket.storage.exists(f"{self.bucket.name}/in/{path}"):
                self.bucket.storage.rm(f"{self.bucket.name}/in/{path}", recursive=True)
        _tell(self._output)

    def grow(self) -> None:
        for part in self.disk.new:
            self.bucket.storage.put_file(str(self.disk.later / part), f"{self.bucket.name}/in/data/{part}")
        _tell(self._output)

    def run(self, step: Step) -> Cost:
        return step.on_s3(self.bucket, self.net, self.bucket.url("in"), _out(step))


def _ordinary(dataset: Dataset, count: int) -> tuple[str, ...]:
    """Parts, so many, which make the threshold of the best share fall when they come."""
    scores = np.stack([dataset.read(part, ["similarity"])["similarity"].to_numpy() for part in dataset.parts])
    now, draws = _threshold(scores), []
    for start in range(0, len(scores) - count + 1, max(1, len(scores) // DRAWS)):
        others = np.delete(scores, range(start, start + count), 0)
        last = _threshold(others)
        if now <= last:
            draws.append((int(((others >= now) & (others < last)).any(axis=1).sum()), start))
    changed, start = sorted(draws)[len(draws) // 2]
    print(f"parts {start} to {start + count - 1} are new: scores of {changed} others are passed", flush=True)
    return dataset.parts[start : start + count]


def _threshold(scores: npt.NDArray[np.float32]) -> float:
    at = scores.size - 1 - int(scores.size * SHARE)
    return float(np.partition(scores.ravel(), at)[at])


def _tell(output: Output) -> None:
    """Writes the manifest of what is there, as `embed` does in the end."""
    write_manifest(output, ledger(output, planned_shards(output), Manifest.of()))


def _out(step: Step) -> str:
    return "page.html" if step.name == "report" else step.name


@dataclass(frozen=True)
class _Growth:
    first: Cost
    again: Cost  # nothing was new
    more: Cost

    @classmethod
    def of(cls, step: Step, place: _Place) -> _Growth:
        place.begin()
        first, again = place.run(step), place.run(step)
        place.grow()
        return cls(first, again, place.run(step))

    def rows(self, what: str) -> Iterator[Row]:
        yield Row(what, "s", Spread.of([self.first.seconds]), note=self.first.note())
        for case, cost in (("nothing new", self.again), ("1 % more", self.more)):
            share = Spread.of([cost.seconds / self.first.seconds])
            yield Row(f"{what}, {case}", "s", Spread.of([cost.seconds]), share=share, note=cost.note())


def measure(quick: bool) -> list[Row]:
    rows, part = (4_000, 400) if quick else (int(os.environ.get("CLIPMILL_BENCH_ROWS", ROWS)), A_PART)
    steps = [STEPS[name] for name in os.environ.get("CLIPMILL_BENCH_STEPS", "filter,report,index").split(",")]
    with tempfile.TemporaryDirectory(dir=os.environ.get("CLIPMILL_BENCH_FOLDER")) as name:
        folder = Path(name)
        (folder / "s3").mkdir()
        few = max(1, round(rows / part / 100))
        dataset = make_dataset(folder / "in", _Parts(rows // part + few, part), dim=DIM, row_group=4096)
        disk = _OnDisk(folder, _ordinary(dataset, few))
        disk.begin()
        with (
            serve(folder / "s3", rows <= _MEMORY_HOLDS) as server,
            proxy(server.endpoint, Faults(latency=0.0 if quick else LATENCY)) as net,
        ):
            bucket = Bucket.fresh(server)
            # each file is held in memory
            bucket.storage.put(str(disk.dataset), f"{bucket.name}/", recursive=True, batch_size=4)
            stored = _growths(steps, _OnS3(bucket, net, disk), f"{rows:,} rows on S3")
        local = _growths(steps, disk, f"{rows:,} rows on a disk")
    for one, other in zip(stored.values(), local.values(), strict=True):
        same = (one.more.kept, one.more.dropped) == (other.more.kept, other.more.dropped)
        expect(same, "the same rows are kept")
    return [row for growths in (stored, local) for what, growth in growths.items() for row in growth.rows(what)]


def _growths(steps: Sequence[Step], place: _Place, where: str) -> dict[str, _Growth]:
    growths = {}
    for step in steps:
        what = f"{step.name} of {where}"
        growths[what] = _Growth.of(step, place)
        print(*growths[what].rows(what), sep="\n", flush=True)
    return growths


if __name__ == "__main__":
    benchkit.main(measure)
