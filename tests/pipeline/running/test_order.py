"""The order in which shards go out: scattered over an object store's names, as listed on a disk."""

from __future__ import annotations

from pathlib import Path

from clipmill.pipeline.dataset.claims import shared
from clipmill.pipeline.dataset.output import Output
from clipmill.pipeline.records import Shard
from clipmill.pipeline.running.order import spread

IN_STORE = [Shard(f"s3://bucket/in/{number:05d}.tar") for number in range(10_000)]


def test_what_is_at_work_at_one_time_lies_all_over_the_names_of_a_store() -> None:
    numbers = [int(shard.url[-9:-4]) for shard in spread(IN_STORE)]
    assert sorted(numbers) == list(range(10_000))
    for start in range(0, 10_000, 1000):
        tenths = {number // 1000 for number in numbers[start : start + 100]}  # those of a hundred workers
        assert len(tenths) >= 9


def test_the_order_is_the_same_every_time_and_whatever_was_done_before() -> None:
    order = spread(IN_STORE)
    assert spread(reversed(IN_STORE)) == order
    assert spread(order[100:]) == order[100:]


def test_files_on_disks_go_out_as_listed() -> None:
    shards = [Shard(f"/in/{number}.tar") for number in (2, 0, 1)]
    assert spread(shards) == shards


def test_claims_keep_the_order(tmp_path: Path) -> None:
    output = Output.at(str(tmp_path / "out")).prepare()
    order = spread(IN_STORE)[:50]
    with shared(output) as claims:
        claims.plan(order)
        assert [shard for _ in range(50) for shard in claims.take()] == order
