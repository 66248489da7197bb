"""Shards to choose samples from, subsets of them, and what was written."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from clipmill.pipeline.dataset.dataset import Dataset
from clipmill.pipeline.dataset.output import Output
from clipmill.pipeline.dataset.subset import IDENTITY, Funnel, Subset, begin_subset, finish_subset, write_subset_part
from fakes import jpeg, write_tar

Sample = dict[str, bytes]  # by extension


def files_of(shard: int, i: int) -> list[tuple[str, bytes]]:
    """In the orders that tars have them; every seventh sample has no image that can be decoded."""
    image = jpeg(100 * shard + i) if i % 7 != 3 else b"\xff\xd8 broken"
    said = {"caption": f"number {i}", "url": f"http://x/{shard}/{i}", "original_width": 640, "exif": "{}"}
    files = [
        ("jpg", image),
        ("txt", f"number {i} of {shard}".encode()),
        ("json", json.dumps(said, indent=i % 3).encode()),
    ]
    turned = files[i % 3 :] + files[: i % 3]
    return [*turned, ("cls", b"7")] if i % 4 == 0 else turned


def make_shards(folder: Path, shards: int = 3, rows: int = 20) -> list[Path]:
    """Keys are the same in every shard."""
    folder.mkdir(parents=True, exist_ok=True)
    for shard in range(shards):
        members = [(f"{i:05d}.{kind}", data) for i in range(rows) for kind, data in files_of(shard, i)]
        write_tar(folder / f"{shard:05d}.tar", members)
    return sorted(folder.glob("*.tar"))


def subset_of(dataset: Dataset, out: str | Path, wanted: Callable[[int, int], bool]) -> Subset:
    """wanted: part, row -> whether it stays."""
    output = Output.at(str(out), dataset.output.storage_options).prepare()
    begin_subset(output, "filter", dataset, {})
    kept = 0
    for number, part in enumerate(dataset.parts):
        table = dataset.read(part, IDENTITY)
        stays = table.filter(pa.array([wanted(number, row) for row in table["row"].to_pylist()], pa.bool_()))
        write_subset_part(output, part, stays)
        kept += len(stays)
    return finish_subset(output, dataset, Funnel(kept, {}, kept))


def tars(out: str) -> list[Path]:
    return sorted(Path(out).glob("*.tar"))


def samples(paths: list[Path]) -> dict[str, Sample]:
    """By key, in order."""
    found: dict[str, Sample] = {}
    for path in paths:
        with tarfile.open(path) as tar:
            for member in tar:
                key, _, extension = member.name.partition(".")
                found.setdefault(key, {})[extension] = tar.extractfile(member).read()  # type: ignore[union-attr]
    return found


def beside(out: str) -> list[dict[str, Any]]:
    return [row for path in tars(out) for row in pq.read_table(path.with_suffix(".parquet")).to_pylist()]


def written(out: str) -> dict[str, str]:
    """What must be the same every time: all but the times in the statistics."""
    paths = [path for path in Path(out).rglob("*") if path.is_file() and not path.name.endswith("_stats.json")]
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
