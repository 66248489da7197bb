"""DuckDB reads of an object store what it needs: exact ranges, and no request for a file's size."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from clipmill.pipeline.dataset.sql import files, register_storage
from clipmill.pipeline.storage.ranges import Ranges
from fsspec.implementations.memory import MemoryFileSystem

ROWS, PARTS = 4096, 3


class Counted(MemoryFileSystem):
    """Writes down what is asked of it."""

    cachable = False
    requests: list[tuple[str, int]] = []  # noqa: RUF012  # emptied by each test

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **more: object) -> bytes:
        data: bytes = super().cat_file(path, start=start, end=end, **more)
        self.requests.append(("GET", len(data)))
        return data

    def info(self, path: str, **more: object) -> dict[str, object]:
        self.requests.append(("HEAD", 0))
        told: dict[str, object] = super().info(path, **more)
        return told


@pytest.fixture
def store() -> Counted:
    MemoryFileSystem().store.clear()
    Counted.requests.clear()
    vectors = pa.array(np.random.default_rng(0).standard_normal(ROWS * 512).astype(np.float16))
    for part in range(PARTS):
        table = pa.table(
            {
                "row": pa.array(range(ROWS), pa.int32()),
                "similarity": pa.array(np.linspace(part, part + 1, ROWS, dtype=np.float32)),
                "image_embedding": pa.FixedSizeListArray.from_arrays(vectors, 512),
            }
        )
        with MemoryFileSystem().open(f"/bucket/data/p{part} [a]*.parquet", "wb") as file:
            pq.write_table(table, file, compression="zstd", use_dictionary=False, row_group_size=1024)
    return Counted()


def names() -> list[str]:
    return [f"memory://bucket/data/p{part} [a]*.parquet" for part in range(PARTS)]


@pytest.mark.parametrize("known", [True, False])
def test_a_column_costs_its_own_bytes(store: Counted, known: bool) -> None:
    sizes = {name: store.size(name) for name in names()}
    store.requests.clear()
    with duckdb.connect() as connection:
        connection.register_filesystem(Ranges(store, sizes if known else None))
        query = f"SELECT min(similarity), max(similarity), count(*) FROM {files(names())} WHERE similarity + 0 >= 0"
        assert connection.execute(query).fetchall() == [(0.0, PARTS, PARTS * ROWS)]
    kinds = Counter(kind for kind, _ in store.requests)
    assert sum(sizes.values()) > 10_000_000 and sum(size for _, size in store.requests) < sum(sizes.values()) / 50
    assert kinds["HEAD"] == (0 if known else PARTS)


def test_what_is_not_there_is_an_error_and_nothing_can_be_written(store: Counted) -> None:
    ranges = Ranges(store)
    with pytest.raises(FileNotFoundError):
        ranges.open("memory://bucket/data/none.parquet")
    with pytest.raises(PermissionError):
        ranges.open(names()[0], "wb")


def test_reads_end_at_the_files_end(store: Counted) -> None:
    with Ranges(store).open(names()[0]) as file:
        whole = store.size(names()[0])
        assert file.seek(-4, 2) == whole - 4
        assert file.read(100) == b"PAR1" and file.read(1) == b"" and file.tell() == whole
        assert file.seek(0) == 0 and len(file.read()) == whole


def test_threads_that_share_a_file_read_where_each_went(store: Counted) -> None:
    """As DuckDB's do: one goes to its place while another one reads."""
    whole = store.cat_file(names()[0])
    gone = Barrier(8)

    def read(number: int) -> bool:
        for turn in range(20):
            start = (7919 * number + 104_729 * turn) % (len(whole) - 100)
            file.seek(start)
            gone.wait(60)
            if file.read(100) != whole[start : start + 100] or file.tell() != start + 100:
                return False
        return True

    with Ranges(store).open(names()[0]) as file, ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(8)))


def test_a_store_is_registered_once(store: Counted) -> None:
    with duckdb.connect() as connection:
        for _ in range(2):
            register_storage(connection, "memory://bucket/data", {})
        assert connection.execute(f"SELECT count(*) FROM {files(names())}").fetchall() == [(PARTS * ROWS,)]
