"""What steps fetch of a dataset in an object store: the columns that they use, and not the embeddings beside them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from clipmill.pipeline import DedupJob, FilterJob, dedup, filter
from clipmill.pipeline.dataset.dataset import Dataset
from clipmill.pipeline.dataset.summary import status
from fsspec.implementations.memory import MemoryFileSystem
from made import make_dataset, unit_vectors

PARTS, ROWS, DIM = 3, 4_000, 512
SPARED = 10  # times more bytes than are fetched, of parts of 8 MB whose footers are read several times


@pytest.fixture
def fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Bytes by object, of a dataset at memory://fetched/out."""
    random, storage = np.random.default_rng(0), MemoryFileSystem()
    parts = [
        {
            "similarity": random.normal(0.25, 0.05, ROWS).astype(np.float32),
            "sha256": [random.bytes(8).hex() for _ in range(ROWS)],
            "image_embedding": unit_vectors(number, ROWS, DIM),
            "text_embedding": unit_vectors(PARTS + number, ROWS, DIM),
        }
        for number in range(PARTS)
    ]
    made = tmp_path / "made"
    make_dataset(made, parts, dim=DIM)
    for path in made.rglob("*"):
        if path.is_file():
            storage.pipe_file(f"/fetched/out/{path.relative_to(made)}", path.read_bytes())
    counted: Counter[str] = Counter()
    real = MemoryFileSystem.cat_file

    def cat_file(self: MemoryFileSystem, path: str, **range: int) -> bytes:
        data: bytes = real(self, path, **range)
        counted[path.rpartition("/")[2]] += len(data)
        return data

    monkeypatch.setattr(MemoryFileSystem, "cat_file", cat_file)
    monkeypatch.setattr("ray.is_initialized", lambda: False)  # other tests' cluster does not see this memory
    return counted


@pytest.mark.parametrize(
    "step",
    [
        lambda out: filter(FilterJob("memory://fetched/out", f"{out}/subset", top_fraction=0.3)),
        lambda out: dedup(DedupJob("memory://fetched/out", f"{out}/unique", near=False)),
        lambda _: Dataset.open("memory://fetched/out"),
    ],
    ids=["filter", "dedup", "open"],
)
def test_embeddings_stay_where_they_are(step: Callable[[Path], object], fetched: Counter[str], tmp_path: Path) -> None:
    step(tmp_path)
    dataset = Dataset.open("memory://fetched/out")
    for part, size in zip(dataset.parts, dataset.sizes, strict=True):
        assert size > 7e6 and fetched[part] < size / SPARED


def test_columns_beside_each_other_are_one_request(fetched: Counter[str], monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = Dataset.open("memory://fetched/out")
    requests: list[int] = []
    monkeypatch.setattr("clipmill.pipeline.storage.ranges.retry", lambda call: requests.append(1) or call())
    dataset.read(dataset.parts[0], ["image_offset", "image_size", "width", "height"])
    assert len(requests) <= 2  # the footer, and those


def test_status_fetches_no_part_but_its_footer(fetched: Counter[str]) -> None:
    told = status(Dataset.open("memory://fetched/out").output)
    assert told is not None and told.dataset.rows == PARTS * ROWS
    dataset = Dataset.open("memory://fetched/out")
    assert all(fetched[part] < size / SPARED for part, size in zip(dataset.parts, dataset.sizes, strict=True))
