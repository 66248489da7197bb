"""A dataset embedded from real shards, all that steps make of it, and a search for traces of a row in any file."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from clipmill.pipeline import (
    ColumnsJob,
    DedupJob,
    ExportJob,
    FilterJob,
    IndexJob,
    ReshardJob,
    ScoreJob,
    columns,
    dedup,
    export,
    filter,
    index,
    reshard,
    score,
)
from clipmill.pipeline.dataset.dataset import Dataset
from clipmill.pipeline.deduplication.kmeans import unit
from embedded import embed_here
from fakes import jpeg, write_tar

ROWS, SHARDS = 12, 3


def image_of(shard: int, row: int) -> bytes:
    return jpeg(1000 * shard + row)


def url_of(shard: int, row: int) -> str:
    return f"https://there.example/{shard}/{row}.jpg"


def write_shard(path: Path, shard: int, rows: int = ROWS) -> None:
    members = []
    for row in range(rows):
        said = {"uid": f"{shard:016x}{row:016x}", "url": url_of(shard, row), "page": url_of(shard, row)}
        members += [
            (f"{row:05d}.jpg", image_of(shard, row)),
            (f"{row:05d}.json", json.dumps(said).encode()),
            (f"{row:05d}.txt", f"number {row} of {shard}".encode()),
        ]
    write_tar(path, members)


def embedded(folder: Path, out: str | None = None) -> Dataset:
    (folder / "shards").mkdir()
    for shard in range(SHARDS):
        write_shard(folder / "shards" / f"{shard:05d}.tar", shard)
    return embed_here([folder / "shards"], out or folder / "out")


STEPS: dict[str, Callable[[str, str], object]] = {
    "subset": lambda url, out: filter(FilterJob(url, out, columns=["url", "uid", "image_embedding"]), _quiet),
    "unique": lambda url, out: dedup(DedupJob(url, out, threshold=0.999), _quiet),
    "index": lambda url, out: index(IndexJob(url, out, kind="hnsw"), _quiet),
    "shards-again": lambda url, out: reshard(ReshardJob(url, out, samples_per_shard=10), _quiet),
    "datacomp": lambda url, out: export(ExportJob(url, out, "datacomp"), _quiet),
    "retrieval": lambda url, out: export(ExportJob(url, out, "clip-retrieval"), _quiet),
    "columns": lambda url, out: columns(ColumnsJob(url, out, ["page"]), _quiet),
    "scores": lambda url, out: _scored(url, out),
}
TABLES: dict[str, Callable[[str, str], object]] = {
    "lance": lambda url, out: export(ExportJob(url, out, "lance"), _quiet),
    "iceberg": lambda url, out: export(ExportJob(url, out, "iceberg"), _quiet),
}


def _scored(url: str, out: str) -> object:
    with patch("ray.is_initialized", return_value=False):  # Ray's workers have none of the tests' modules
        return score(ScoreJob(url, out, functions=["forget_kit:beginning"]), _quiet)


def beginning(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.str_]:
    """A score that is known again: the first number of an embedding, in words."""
    return np.array([f"begins with {number!r}" for number in vectors[:, 0].tolist()])


def derived(dataset: Dataset, folder: Path | str, steps: Iterable[str] = tuple(STEPS)) -> list[str]:
    """What steps make of it: folders, each called as its step."""
    every = STEPS | TABLES
    for step in steps:
        every[step](dataset.url, f"{folder}/{step}")
    return [f"{folder}/{step}" for step in steps]


def _quiet(_: object) -> None: ...


@dataclass(frozen=True)
class Traces:
    """What a row can be known by: its url, uid, score, image and embeddings."""

    texts: tuple[str, ...]
    data: tuple[bytes, ...]

    @classmethod
    def of(cls, dataset: Dataset, shard: int, row: int) -> Traces:
        (found,) = dataset.take(dataset.parts[shard], [row], dataset.schema.names).to_pylist()
        vectors = [np.asarray(found[f"{side}_embedding"], np.float32) for side in ("image", "text")]
        vectors += [unit(vector[None])[0] for vector in vectors]  # as `dedup` keeps them
        data = [vector.astype(kind).tobytes() for vector in vectors for kind in (np.float32, np.float16)]
        (scored,) = beginning(vectors[0][None]).tolist()
        return cls((found["uid"], found["url"], found["sha256"], scored), (*data, image_of(shard, row)))

    def in_files(self, *folders: Path) -> list[str]:
        """The files that hold any of it, as it is or once decoded."""
        paths = sorted(path for folder in folders for path in folder.rglob("*") if path.is_file())
        return [str(path) for path in paths if any(map(self._are_in, _contents(path)))]

    def _are_in(self, content: bytes) -> bool:
        return any(text.encode() in content for text in self.texts) or any(data in content for data in self.data)


def _contents(path: Path) -> Iterator[bytes]:
    content = path.read_bytes()
    yield content
    if content[:4] == b"PAR1":
        table = pq.read_table(io.BytesIO(content))
        for column in table.columns:
            for chunk in column.chunks:
                yield _decoded(chunk.flatten() if pa.types.is_fixed_size_list(chunk.type) else chunk)
    if path.suffix == ".npz":
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            for name in arrays:
                yield arrays[name].tobytes()
                yield str(arrays[name].tolist()).encode()


def _decoded(values: pa.Array) -> bytes:
    if pa.types.is_floating(values.type):
        return values.to_numpy(zero_copy_only=False).tobytes()
    return " ".join(map(str, values.to_pylist())).encode()
