"""Shards come from a thread that takes them before they are needed, and from nowhere twice."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from clipmill.pipeline.errors import InfrastructureError
from clipmill.pipeline.records import Shard
from clipmill.pipeline.running.sources import Ahead


@dataclass
class Slow:
    """Gives what a test lets it give; `others` have the rest in hand."""

    shards: list[Shard]
    others: list[Shard] = field(default_factory=list)
    free: threading.Event = field(default_factory=threading.Event)
    wanted: list[int] = field(default_factory=list)
    end: threading.Event = field(default_factory=threading.Event)  # of the others
    given_up: bool = False
    told: list[Shard] = field(default_factory=list)

    @property
    def left(self) -> int:
        return len(self.shards) + len(self.others)

    @property
    def waits(self) -> bool:
        return not self.shards and bool(self.others)

    def take(self, wanted: int = 1) -> list[Shard]:
        self.wanted.append(wanted)
        assert self.free.wait(20)
        taken, self.shards = self.shards[:wanted], self.shards[wanted:]
        if self.end.is_set():
            self.told, self.others = self.others, []
        return taken

    def elsewhere(self) -> list[Shard]:
        told, self.told = self.told, []
        return told

    def give_up(self) -> None:
        self.given_up = True


def shards(count: int) -> list[Shard]:
    return [Shard(f"{number}.tar") for number in range(count)]


def soon(take: Callable[[], list[Shard]]) -> list[Shard]:
    end = time.monotonic() + 20
    while not (taken := take()) and time.monotonic() < end:
        time.sleep(0.005)
    return taken


def test_nobody_waits_for_a_source_that_is_slow() -> None:
    with Ahead(source := Slow(shards(5))) as ahead:
        assert ahead.take(3) == [] and ahead.left == 5 and not ahead.waits
        source.free.set()
        assert soon(lambda: ahead.take(3)) == shards(5)[:3] and ahead.left == 2
        assert soon(lambda: ahead.take(3)) == shards(5)[3:] and ahead.left == 0


def test_no_more_is_taken_than_is_wanted() -> None:
    """Other runs may have workers that are idle."""
    with Ahead(source := Slow(shards(5))) as ahead:
        source.free.set()
        assert soon(lambda: ahead.take(2)) == shards(5)[:2]
        time.sleep(0.1)
        assert ahead.take(0) == [] and source.left == 3 and ahead.left == 3


def test_what_others_have_is_waited_for_and_told_once_it_is_done() -> None:
    with Ahead(source := Slow([], others=shards(2))) as ahead:
        source.free.set()
        assert soon(lambda: ahead.take(2) or ([Shard("")] if ahead.waits else [])) == [Shard("")]
        source.end.set()
        assert soon(ahead.elsewhere) == shards(2) and ahead.left == 0


def test_giving_up_leaves_what_was_not_taken() -> None:
    with Ahead(source := Slow(shards(5))) as ahead:
        ahead.take(3)
        ahead.give_up()
        source.free.set()
        assert ahead.left == 0 and ahead.take(3) == []
    assert source.given_up and not ahead._thread.is_alive()


def test_a_source_that_fails_ends_the_run() -> None:
    class Broken(Slow):
        def take(self, wanted: int = 1) -> list[Shard]:
            raise InfrastructureError("the storage keeps failing")

    with Ahead(Broken(shards(5))) as ahead, pytest.raises(InfrastructureError, match="the storage keeps failing"):
        soon(lambda: ahead.take(1))
