"""Which shard is next: every one is given out until it is done or given up, whatever happens to it."""

from __future__ import annotations

import random

import pytest
from clipmill.pipeline.records import Shard
from clipmill.pipeline.running.backlog import Backlog, Limits
from hypothesis import given
from hypothesis import strategies as st

A, B, C = (Shard(f"/{name}.tar") for name in "abc")
LIMITS = Limits(attempts=3, pause=1.0, deadline=100.0, late=3.0, least_late=10.0)


def backlog(*shards: Shard) -> Backlog:
    return Backlog(shards, LIMITS)


def test_shards_go_out_in_order_and_a_done_one_is_done_once() -> None:
    log = backlog(A, B)
    assert log.peek(0) == A and log.take(0) == A and log.take(0) == B and log.peek(0) is None
    assert not log.is_empty
    assert log.done(A, 1) and not log.done(A, 1)
    assert log.done(B, 1) and log.is_empty


def test_a_failed_shard_waits_longer_each_time_and_is_given_up_at_last() -> None:
    log = backlog(A)
    log.take(0)
    assert not log.failed(A, 0) and log.failed_before(A)
    assert log.peek(0.9) is None and log.peek(1.0) == A
    log.take(1)
    assert not log.failed(A, 1)
    assert log.peek(2.9) is None and log.peek(3.0) == A
    log.take(3)
    assert log.failed(A, 3) and log.is_empty


@pytest.mark.parametrize(("recovered", "attempts"), [(3, 3), (4, 5)])
def test_where_the_failures_of_several_shards_have_passed_the_next_gets_more_attempts(
    recovered: int, attempts: int
) -> None:
    others = [Shard(f"/{number}.tar") for number in range(recovered)]
    log = backlog(*others, A)
    for shard in others:
        assert log.take(0) == shard and not log.failed(shard, 0)
    for shard in others:
        assert log.take(50) == shard and log.done(shard, 50)
    ends = []
    while not log.is_empty:
        now = 100 * (len(ends) + 1)
        assert log.take(now) == A
        ends.append(log.failed(A, now))
    assert ends == [False] * (attempts - 1) + [True]


def test_a_final_failure_is_not_tried_again() -> None:
    log = backlog(A)
    log.take(0)
    assert log.failed(A, 0, final=True) and log.is_empty


def test_what_was_given_back_is_first_and_not_blamed() -> None:
    log = backlog(A, B, C)
    log.take(0)
    log.take(0)
    log.give_back(A)
    assert log.peek(0) == A and not log.failed_before(A)


def test_a_late_shard_gets_a_second_worker_only_when_nothing_else_is_left() -> None:
    log = backlog(A, B, C)
    log.take(0)
    log.take(0)
    assert log.done(A, 2)
    assert log.late(50) is None  # C waits
    log.take(50)
    assert log.late(51) == B and log.late(51) is None  # once
    assert log.late(70) == C
    assert log.done(B, 71) and not log.done(B, 72)  # the loser's work is dropped


def test_nothing_is_late_before_others_were_done_or_too_soon() -> None:
    log = backlog(A, B)
    log.take(0)
    assert log.late(1000) is None
    log.take(0)
    log.done(A, 1)
    assert log.late(10) is None and log.late(10.1) == B


def test_one_failed_copy_does_not_fail_the_shard() -> None:
    log = backlog(A, B)
    log.take(0), log.take(0)
    log.done(A, 1)
    assert log.late(20) == B
    assert not log.failed(B, 21) and not log.failed_before(B)
    assert log.done(B, 22) and log.is_empty


def test_beyond_the_deadline_a_shard_is_taken_from_all_who_have_it() -> None:
    log = backlog(A)
    log.take(0)
    assert log.overdue(100) == [] and log.overdue(101) == [A]
    assert not log.expire(A, 101) and log.overdue(101) == []
    assert log.peek(102) == A


def test_after_closing_nothing_goes_out_and_what_is_out_may_end() -> None:
    log = backlog(A, B, C)
    log.take(0)
    log.take(0)
    assert log.close() == 1 and log.peek(0) is None
    assert not log.failed(A, 1) and log.peek(1000) is None
    log.give_back(B)
    assert log.is_empty


@given(st.integers(1, 12), st.randoms(use_true_random=False))
def test_every_shard_ends_exactly_once_whatever_happens(count: int, rng: random.Random) -> None:
    shards = [Shard(f"/{i}.tar") for i in range(count)]
    log, now, held, ended = Backlog(shards, LIMITS), 0.0, [], []
    while not log.is_empty:
        now += rng.choice((0.1, 1.0, 30.0))
        if log.peek(now) and rng.random() < 0.6:
            held.append(log.take(now))
        if (late := log.late(now)) is not None:
            held.append(late)
        for shard in log.overdue(now):
            held = [other for other in held if other != shard]
            if log.expire(shard, now):
                ended.append(shard)
        if held:
            shard = held.pop(rng.randrange(len(held)))
            match rng.randrange(4):
                case 0:
                    ended += [shard] if log.failed(shard, now) else []
                case 1:
                    log.give_back(shard)
                case _:
                    ended += [shard] if log.done(shard, now) else []
    assert sorted(shard.url for shard in ended) == sorted(shard.url for shard in shards)
