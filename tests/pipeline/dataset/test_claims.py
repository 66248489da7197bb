"""Runs into one output divide its shards, and take over from those that died; alone, a run hardly notices."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from clipmill.pipeline.dataset.claims import CLAIMS, Claims, shared
from clipmill.pipeline.dataset.layout import part_path
from clipmill.pipeline.dataset.lock import Patience
from clipmill.pipeline.dataset.output import Output
from clipmill.pipeline.dataset.runs import RUNS, Holder
from clipmill.pipeline.records import Shard

QUICK = Patience(renew=0.1, expires=1.0, look=0.02)
SHARDS = [Shard(f"/in/{number:05d}.tar") for number in range(40)]


@pytest.fixture
def output(tmp_path: Path) -> Output:
    return Output.at(str(tmp_path / "out")).prepare()


def commit(output: Output, claims: Claims, shards: list[Shard]) -> None:
    for shard in shards:
        output.write(part_path(shard.part_name), b"")
        claims.done(shard)


def taken(claims: Claims, seconds: float = 20) -> Iterator[Shard]:
    """All that a run gets until nothing is left."""
    end = time.monotonic() + seconds
    while claims.left and time.monotonic() < end:
        if not (shards := claims.take()):
            time.sleep(0.005)
        yield from shards
    assert not claims.left


def test_a_run_alone_gets_all_and_leaves_nothing(output: Output) -> None:
    with shared(output, QUICK) as claims:
        claims.plan(SHARDS)
        assert claims.left == 40 and not claims.others
        assert Counter(taken(claims)) == Counter(SHARDS) and claims.take() == []
    assert output.names(CLAIMS) == output.names(RUNS) == set()


def test_claims_do_not_grow_with_the_shards(output: Output) -> None:
    many = [Shard(f"/in/{number:06d}.tar") for number in range(20_000)]
    with shared(output, QUICK) as claims:
        claims.plan(many)
        assert Counter(taken(claims)) == Counter(many)
        assert len(output.names(CLAIMS)) <= 4096


def test_two_runs_get_each_shard_once(output: Output) -> None:
    with shared(output, QUICK) as one, shared(output, QUICK) as two:
        one.plan(SHARDS)
        two.plan(SHARDS[5:])  # which knows of others
        got: list[Shard] = []
        while one.left or two.left:
            for claims in (one, two):
                shards = claims.take()
                commit(output, claims, shards)
                got += shards
        assert Counter(got) == Counter(SHARDS)
        elsewhere = {shard.url for claims in (one, two) for shard in claims.elsewhere()}
        assert len(elsewhere) == 35 and one.elsewhere() == two.elsewhere() == []
    assert output.names(CLAIMS) == output.names(RUNS) == set()


def test_the_second_says_who_is_at_work(output: Output) -> None:
    with shared(output, QUICK), shared(output, QUICK) as second:
        (other,) = second.others
        assert str(other).startswith("process ") and " at work since 20" in str(other)


def test_what_another_run_gives_up_is_tried_by_this_one(output: Output) -> None:
    with shared(output, QUICK) as one, shared(output, QUICK) as two:
        one.plan(SHARDS[:1])
        two.plan(SHARDS[:1])
        (shard,) = one.take()
        assert two.take() == [] and two.left == 1
        one.done(shard)  # without a part
        assert list(taken(two)) == SHARDS[:1]


def test_the_shards_of_a_run_that_left_are_free_again(output: Output) -> None:
    with shared(output, QUICK) as two:
        with shared(output, QUICK) as one:
            one.plan(SHARDS)
            two.plan(SHARDS)
            done = one.take()  # a block, which may have more than one shard
            commit(output, one, done)
            one.take()  # and is stopped
        assert Counter(done + list(taken(two))) == Counter(SHARDS) and Counter(two.elsewhere()) == Counter(done)
    assert output.names(CLAIMS) == output.names(RUNS) == set()


def test_a_run_that_began_since_the_last_look_is_at_work(output: Output) -> None:
    rarely = Patience(renew=3600, expires=3600, look=0.0)
    with shared(output, rarely) as one, shared(output, rarely) as two:  # the first has not heard of the second
        two.plan(SHARDS[:1])
        one.plan(SHARDS[:1])
        assert two.take() == SHARDS[:1]
        assert one.take() == one.take() == [] and one.left == 1


def test_what_is_to_be_embedded_again_is_not_done_because_it_has_a_part(output: Output) -> None:
    with shared(output, QUICK) as one, shared(output, QUICK) as two:
        one.plan(SHARDS[:1])
        output.write(part_path(SHARDS[0].part_name), b"old")
        two.plan(SHARDS[:1], output.parts())
        (shard,) = one.take()
        assert two.take() == [] and two.elsewhere() == []
        one.done(shard)
        assert list(taken(two)) == SHARDS[:1]


def test_a_run_elsewhere_that_is_silent_is_taken_for_dead(output: Output) -> None:
    output.write(f"{RUNS}/gone.json", Holder("elsewhere", 1, "yesterday").written())
    with shared(output, QUICK) as claims:
        assert [other.host for other in claims.others] == ["elsewhere"]
        output.write(f"{CLAIMS}/{SHARDS[0].digest[:3]}", b"gone")
        claims.plan(SHARDS)
        began = time.monotonic()
        assert Counter(taken(claims)) == Counter(SHARDS)
        assert time.monotonic() - began >= QUICK.expires / 2 and not claims.others
    assert output.names(CLAIMS) == output.names(RUNS) == set()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", json.dumps({"closed": 3}).encode()])
def test_damaged_files_are_in_nobodys_way_for_long(output: Output, content: bytes) -> None:
    output.write(f"{RUNS}/odd.json", content)
    output.write(f"{CLAIMS}/{SHARDS[0].digest[:3]}", content)
    with shared(output, QUICK) as claims:
        claims.plan(SHARDS)
        assert Counter(taken(claims)) == Counter(SHARDS)


def test_a_run_that_replaces_parts_lets_the_others_end(output: Output) -> None:
    with shared(output, QUICK) as second:
        with shared(output, QUICK):
            waiting = second.wait(lambda: False)
            next(waiting)
            next(waiting)
        for _ in waiting:  # which ends
            pass
        assert not second.others


def test_of_two_that_wait_for_each_other_one_goes_first(output: Output) -> None:
    ended: list[str] = []

    def replace(name: str) -> None:
        with shared(output, QUICK) as claims:
            begun.wait(20)
            for _ in claims.wait(lambda: False):
                pass
            ended.append(f"{name} begins")
            time.sleep(0.3)
            ended.append(f"{name} ends")

    begun = threading.Barrier(2)
    threads = [threading.Thread(target=replace, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    first, second = (line[0] for line in ended[::2])
    assert ended == [f"{first} begins", f"{first} ends", f"{second} begins", f"{second} ends"] and first != second


def test_many_are_claimed_at_a_time_and_no_more_than_are_wanted(output: Output) -> None:
    with shared(output, QUICK) as claims:
        claims.plan(SHARDS)
        first = claims.take(25)
        assert 25 <= len(first) < 40 and claims.left == 40 - len(first)
        assert Counter(first + list(taken(claims))) == Counter(SHARDS)
