"""Running an iterator ahead of its consumer changes when items are made, and nothing else."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count

import pytest
from clipmill.pipeline.storage.ahead import ahead

pytestmark = pytest.mark.timeout(30)


class Source:
    """Counts what it made, and notes when it is closed."""

    def __init__(self) -> None:
        self.made = 0
        self.closed = threading.Event()

    def has_made(self, count: int) -> bool:
        return self.made == count

    def items(self) -> Iterator[int]:
        try:
            for item in count():
                self.made += 1
                yield item
        finally:
            self.closed.set()


def threads() -> int:
    return sum(thread.name == "ahead" for thread in threading.enumerate())


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("depth", [1, 3, 1000])
def test_items_come_in_order(depth: int) -> None:
    with ahead(range(200), depth) as items:
        assert list(items) == list(range(200))
    assert threads() == 0


def test_nothing_is_an_item_like_any_other() -> None:
    with ahead([None, (), None], 2) as items:
        assert list(items) == [None, (), None]


def test_no_items_are_none() -> None:
    nothing: list[int] = []
    with ahead(nothing, 2) as items:
        assert list(items) == []


def test_items_are_made_in_another_thread() -> None:
    with ahead((threading.current_thread().name for _ in range(3)), 2) as items:
        assert set(items) == {"ahead"}


@pytest.mark.parametrize("error", [KeyError("x"), SystemExit(3)])
def test_an_error_reaches_the_consumer_in_its_place(error: BaseException) -> None:
    def failing() -> Iterator[int]:
        yield from range(3)
        raise error

    got = []
    with pytest.raises(type(error)) as caught, ahead(failing(), 8) as items:
        for item in items:
            got.append(item)  # noqa: PERF402  # what came before the error counts
    assert got == [0, 1, 2] and caught.value is error
    assert threads() == 0


def test_an_iterable_that_cannot_begin_is_an_error_too() -> None:
    class Unwilling:
        def __iter__(self) -> Iterator[int]:
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"), ahead(Unwilling(), 2) as items:
        list(items)


@pytest.mark.parametrize("depth", [1, 4])
def test_no_more_than_the_depth_waits(depth: int) -> None:
    """And one more, which is made and finds no room."""
    source = Source()
    with ahead(source.items(), depth) as items:
        iterator = iter(items)
        for taken in range(3):
            until(partial(source.has_made, taken + depth + 1))
            time.sleep(0.15)
            assert source.has_made(taken + depth + 1)
            assert next(iterator) == taken


def test_leaving_early_stops_the_thread_and_closes_the_iterator() -> None:
    source = Source()
    with ahead(source.items(), 2) as items:
        assert next(iter(items)) == 0
    assert source.closed.is_set() and threads() == 0
    made = source.made
    time.sleep(0.15)
    assert source.made == made


def test_leaving_through_an_exception_keeps_it() -> None:
    source = Source()
    with pytest.raises(RuntimeError, match="the disk is full"), ahead(source.items(), 2):
        raise RuntimeError("the disk is full")
    assert source.closed.is_set() and threads() == 0


def test_leaving_without_taking_anything_is_no_deadlock() -> None:
    source = Source()
    with ahead(source.items(), 1):
        pass
    assert source.closed.is_set() and threads() == 0


def test_one_may_run_ahead_of_another() -> None:
    source = Source()
    with ahead(source.items(), 2) as outer:
        with ahead((item * 10 for item in outer), 2) as inner:
            iterator = iter(inner)
            assert [next(iterator) for _ in range(20)] == list(range(0, 200, 10))
        assert threads() == 1
    assert source.closed.is_set() and threads() == 0


def test_an_error_passes_through_both() -> None:
    def failing() -> Iterator[int]:
        yield 1
        raise OSError("the connection is gone")

    with pytest.raises(OSError, match="gone"), ahead(failing(), 2) as outer, ahead((i for i in outer), 2) as inner:
        list(inner)
    assert threads() == 0
