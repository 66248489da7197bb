"""Remote files with holes: right bytes wherever they are read, and few requests that skip what is not wanted."""

from __future__ import annotations

import io

import pytest
from clipmill.pipeline.storage.holes import FileWithHoles, Range
from fake_ranges import CONTENT, FakeStorage
from hypothesis import given, settings
from hypothesis import strategies as st

URL = "s3://b/x.tar"
HOLES = st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 10_000)).map(lambda two: (min(two), max(two))))


@settings(deadline=None, max_examples=50)
@given(HOLES, st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 3_000)), max_size=10))
def test_bytes_in_holes_and_between_them_are_those_of_the_object(holes: list[Range], reads: list[Range]) -> None:
    with FileWithHoles(FakeStorage(), URL, len(CONTENT), holes) as file:
        assert file.readall() == CONTENT
        for start, size in reads:
            file.seek(start)
            first = file.read(size) or b""  # as of raw files: fewer bytes, but some
            assert first == CONTENT[start : start + len(first)]
            assert bool(first) == bool(CONTENT[start : start + size])


def test_a_hole_is_not_fetched_and_a_narrow_one_is() -> None:
    storage = FakeStorage()
    with io.BufferedReader(FileWithHoles(storage, URL, len(CONTENT), [(500, 5_000), (6_000, 6_100)])) as file:
        assert file.read(500) == CONTENT[:500]
        file.seek(5_000)
        assert file.read() == CONTENT[5_000:]
    assert set(storage.calls) == {(0, 500), (5_000, 10_000)}


def test_what_was_cut_short_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clipmill.pipeline.storage.retry.time.sleep", lambda _: None)
    storage = FakeStorage(on_call=lambda start, end, attempt: CONTENT[start : end - 1] if attempt == 1 else None)
    with FileWithHoles(storage, URL, len(CONTENT), [(500, 9_000)]) as file:
        assert file.readall() == CONTENT
