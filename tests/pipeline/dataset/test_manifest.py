"""The manifest holds what is known of each part, packs it, and adds it up."""

from __future__ import annotations

import io
import json
from collections import Counter
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from clipmill.pipeline.dataset import manifest as module
from clipmill.pipeline.dataset.manifest import Manifest
from clipmill.pipeline.dataset.totals import Totals
from clipmill.pipeline.records import ShardStats
from hypothesis import given
from hypothesis import strategies as st

_seconds = st.dictionaries(st.sampled_from(["read", "encode", "total", "worker"]), st.floats(0, 1e6), max_size=3)
_stats = st.builds(
    ShardStats,
    st.text(min_size=1, max_size=20),
    st.integers(0, 1 << 40),
    st.integers(0, 1 << 40),
    st.dictionaries(st.text(max_size=9), st.integers(1, 99), max_size=3).map(Counter),
    _seconds,
    st.integers(0, 1 << 40),
    _seconds,
    _seconds,
    st.floats(0, 1e20),
    st.floats(0, 1e20),
)


@given(st.lists(_stats, max_size=5))
def test_packed_and_unpacked_it_is_the_same(stats: list[ShardStats]) -> None:
    assert list(Manifest.unpacked(Manifest.of(stats).packed())) == stats


def test_more_parts_than_are_objects_at_a_time_keep_their_order() -> None:
    stats = [ShardStats(f"{number}.tar", number, number // 2) for number in range(2500)]
    made = Manifest.of(stats)
    assert list(made) == stats and len(made) == 2500 and made.urls == [each.url for each in stats]
    assert (made.totals.shards, made.totals.rows) == (2500, sum(range(2500)))


def test_of_several_rows_of_a_shard_the_last_counts() -> None:
    rows = [ShardStats("a", 1, 1), ShardStats("b", 2, 2), ShardStats("a", 3, 3)]
    assert [stats.rows for stats in Manifest.of(rows).only(["b", "unknown", "a"])] == [2, 3]
    assert [stats.rows for stats in (Manifest.of(rows[:2]) + Manifest.of(rows[2:])).only("a")] == [3]


@given(st.lists(_stats, max_size=5), st.integers(1, 5))
def test_columns_add_up_to_what_the_rows_do(stats: list[ShardStats], batch: int) -> None:
    expected = Totals()
    for each in stats:
        expected.add(each)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_BATCH", batch)
        totals = Manifest.of(stats).totals
    for name, value in vars(expected).items():
        found = getattr(totals, name)
        if isinstance(value, Counter):
            assert dict(found) == pytest.approx(dict(value)), name
        else:
            assert found == (value if isinstance(value, int) else pytest.approx(value)), name


def test_the_latest_row_of_each_shard_is_kept() -> None:
    rows = [ShardStats("a", 1, 1), ShardStats("b", 2, 2), ShardStats("a", 3, 3)]
    assert list(Manifest.of(rows).latest()) == rows[1:] and list(Manifest.of(rows[:2]).latest()) == rows[:2]
    assert list(Manifest.of().latest()) == []


def test_rows_of_some_shards_keep_their_order() -> None:
    rows = Manifest.of(ShardStats(name, 1, 1) for name in "cab")
    assert rows.among("abc").urls == ["c", "a", "b"] and rows.among("ba").urls == ["a", "b"]
    assert rows.only("abc").among("bc").urls == ["b", "c"]


def test_parts_are_true_by_their_names_too() -> None:
    made = Manifest.of([ShardStats("a", 1, 1, part_bytes=5), ShardStats("b", 2, 2, part_bytes=6)]).under(["x", "y"])
    assert made.true_to(pa.array(["x", "y"]), pa.array([5, 7]), by="part").urls == ["a"]


def earlier(stats: ShardStats) -> dict[str, Any]:
    """A row as clipmill wrote it when counts and times were JSON."""
    return {
        "part": "p.parquet", "shard": stats.url, "rows": stats.rows, "embedded": stats.embedded,
        "failures": json.dumps(stats.failures), "seconds": json.dumps(stats.seconds), "bytes": stats.part_bytes,
        "waits": json.dumps({"starved": stats.starved, "blocked": stats.blocked}), "flop": stats.flop,
        "peak": stats.peak, "half_pairs": json.dumps(stats.half_pairs), "notes": json.dumps(stats.notes),
    }  # fmt: skip


@given(st.lists(_stats, max_size=3))
def test_manifests_of_before_are_read(stats: list[ShardStats]) -> None:
    file = io.BytesIO()
    schema = pa.schema(
        [(name, pa.string()) for name in ("part", "shard", "failures", "seconds", "waits", "half_pairs", "notes")]
        + [(name, pa.int64()) for name in ("rows", "embedded", "bytes")]
        + [(name, pa.float64()) for name in ("flop", "peak")]
    )
    pq.write_table(pa.Table.from_pylist([earlier(each) for each in stats], schema), file)
    read = Manifest.unpacked(file.getvalue())
    assert list(read) == stats and set(read.column("part").to_pylist()) <= {"p.parquet"}
