"""Which samples go into which new shard."""

from __future__ import annotations

from clipmill.pipeline.records import Shard
from clipmill.pipeline.resharding.reshard_plan import NewShard, Source, cut
from hypothesis import given
from hypothesis import strategies as st


def sources(counts: list[int]) -> list[Source]:
    return [Source(f"{i:05d}.parquet", Shard(f"/{i:05d}.tar"), count) for i, count in enumerate(counts)]


def flat(shards: list[NewShard]) -> list[tuple[str, int]]:
    return [(each.source.part, int(place)) for new in shards for each in new.picked for place in each.positions]


COUNTS = st.lists(st.integers(1, 30), max_size=8)


@given(COUNTS, st.integers(1, 20))
def test_without_a_seed_the_order_is_the_datasets(counts: list[int], size: int) -> None:
    shards = list(cut(sources(counts), size))
    assert flat(shards) == [(f"{i:05d}.parquet", place) for i, count in enumerate(counts) for place in range(count)]
    assert [new.number for new in shards] == list(range(len(shards)))
    assert all(new.samples == size for new in shards[:-1]) and all(0 < new.samples <= size for new in shards)


@given(COUNTS, st.integers(1, 20), st.integers(0, 3))
def test_with_a_seed_every_sample_is_there_once_and_each_shard_reads_forwards(
    counts: list[int], size: int, seed: int
) -> None:
    shards = list(cut(sources(counts), size, seed))
    assert sorted(flat(shards)) == sorted(flat(list(cut(sources(counts), size))))
    assert flat(shards) == flat(list(cut(sources(counts), size, seed)))
    assert [new.samples for new in shards] == [new.samples for new in cut(sources(counts), size)]
    for new in shards:
        assert len({each.source.part for each in new.picked}) == len(new.picked)
        assert all((each.positions[1:] > each.positions[:-1]).all() for each in new.picked)


def test_a_shuffle_spreads_samples_over_thirty_two_shards_and_no_more() -> None:
    shards = list(cut(sources([100] * 200), 100, seed=1))
    assert flat(shards) != flat(list(cut(sources([100] * 200), 100, seed=2)))
    for start in range(0, 200, 32):
        together = shards[start : start + 32]
        parts = {each.source.part for new in together for each in new.picked}
        assert len(parts) == len(together)
        assert all(len(new.picked) > len(together) * 3 // 4 for new in together)
