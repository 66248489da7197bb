"""A worker is replaced, and a machine left out, for what fails there and not elsewhere."""

from __future__ import annotations

import random

from clipmill.pipeline.running.judge import Judge


def with_good(*machines: str) -> Judge:
    judge = Judge()
    for machine in machines:
        judge.succeeded(f"on {machine}", machine)
    return judge


def test_a_worker_is_replaced_after_two_shards_without_a_success() -> None:
    judge = with_good("b")
    assert not judge.failed("w", "a", "1", "no GPU")
    assert judge.failed("w", "a", "2", "no GPU")
    judge.succeeded("v", "a")
    assert not judge.failed("v", "a", "1", "disk")
    judge.succeeded("v", "a")
    assert not judge.failed("v", "a", "2", "disk")


def test_one_bad_shard_proves_nothing() -> None:
    judge = with_good("b", "c")
    assert not any(judge.failed("w", "a", "1", "unreadable") for _ in range(9))
    assert judge.gone("w", "a", ["1"], "died") is None
    assert judge.gone("x", "a", ["1"], "died") is None, "the same shard killed both"


def test_a_machine_is_left_out_when_two_of_its_workers_go_in_a_row() -> None:
    judge = with_good("b", "c")
    assert judge.gone("w", "a", ["1", "2"], "CUDA error") is None
    why = judge.gone("x", "a", ["3"], "CUDA error")
    assert why == "2 workers in a row: CUDA error" and judge.left_out == {"a": why}


def test_a_machine_on_which_workers_cannot_start_is_left_out() -> None:
    judge = with_good("b")
    assert judge.gone("w", "a", [], "no driver") is None
    assert judge.gone("x", "a", [], "no driver") == "2 workers in a row: no driver"


def test_a_machine_that_has_worked_is_trusted_for_longer() -> None:
    """Its workers may have been killed by somebody twice in a row."""
    judge = with_good("a", "b", "c")
    assert [judge.gone(number, "a", [str(number)], "killed") for number in range(4)] == [
        *[None] * 3,
        "4 workers in a row: killed",
    ]


def test_a_success_in_between_clears_a_machine() -> None:
    judge = with_good("b", "c")
    for number in range(9):
        assert judge.gone(number, "a", [str(number)], "spot") is None
        judge.succeeded("again", "a")
    assert judge.left_out == {}


def test_where_most_machines_fail_no_machine_is_to_blame() -> None:
    judge = with_good("d")
    for machine in ("a", "b", "c"):
        assert judge.gone("w", machine, ["1"], "storage") is None
    for machine in ("a", "b", "c"):
        assert judge.gone("x", machine, ["2"], "storage") is None
    assert judge.left_out == {}


def test_machines_that_never_did_a_shard_are_left_out_though_they_are_most() -> None:
    judge = with_good("d", "e")
    for machine in ("a", "b", "c", "f"):
        assert judge.gone("w", machine, ["1"], "no GPU") is None
    for number, machine in enumerate(("a", "b", "c", "f")):
        assert judge.gone("x", machine, [f"{number}0"], "no GPU") == "2 workers in a row: no GPU"
    judge = with_good("a", "d", "e")
    for machine in ("a", "b", "c", "f"):
        judge.gone("w", machine, ["1"], "storage")
    assert judge.left_out == {} and judge.gone("x", "a", ["2"], "storage") is None, "it has done some"


def test_the_only_machine_is_never_left_out() -> None:
    judge = with_good("a")
    assert all(judge.gone(number, "a", [str(number)], "dies") is None for number in range(9))


def test_of_a_thousand_machines_the_ten_bad_ones_are_left_out_and_no_other() -> None:
    """Good machines fail now and then, too."""
    chance, judge, number = random.Random(3), Judge(), 0
    bad = {f"m{i}" for i in range(10)}
    failed_on_bad = 0
    for _ in range(20_000):
        machine = f"m{chance.randrange(1000)}"
        if machine in judge.left_out:
            continue
        number += 1
        worker = f"{machine}'s"
        if machine in bad or chance.random() < 0.01:
            failed_on_bad += machine in bad
            if judge.failed(worker, machine, str(number), "broken"):
                judge.gone(worker, machine, [], "broken")
        else:
            judge.succeeded(worker, machine)
    assert set(judge.left_out) == bad and failed_on_bad == 40


def test_what_failed_is_tried_again_by_those_that_have_done_something() -> None:
    judge = Judge()
    assert judge.may_try_again("a", "ab")
    judge.failed("a", "m", "1", "broken")
    assert not judge.may_try_again("a", "ab") and judge.may_try_again("b", "ab")
    judge.failed("b", "n", "1", "broken")
    assert judge.may_try_again("a", "ab") and judge.may_try_again("b", "ab")  # somebody must
    judge.succeeded("b", "n")
    assert judge.may_try_again("b", "ab") and not judge.may_try_again("c", "abc")
    judge.gone("b", "n", [], "dies")
    assert judge.may_try_again("c", "abc")
