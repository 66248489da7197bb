"""Segments: appended, merged, read while they are merged, and put into the one file at the end."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from clipmill.pipeline.dataset.manifest import Manifest
from clipmill.pipeline.dataset.manifest_files import (
    MANIFEST,
    ManifestReader,
    Segments,
    read_manifest,
    segments_of,
    write_manifest,
)
from clipmill.pipeline.dataset.output import Output
from clipmill.pipeline.errors import InfrastructureError
from clipmill.pipeline.records import ShardStats


def rows(*numbers: int, count: int = 4) -> Manifest:
    return Manifest.of(ShardStats(f"{number}.tar", count, count) for number in numbers)


def urls(output: Output) -> list[str]:
    return [url.removesuffix(".tar") for url in read_manifest(output).urls]


def test_two_runs_append_and_neither_overwrites_the_other(output: Output) -> None:
    one, two = Segments(output), Segments(output)
    write_manifest(output, rows(1))
    for number in (2, 4):
        one.append(rows(number))
        two.append(rows(number + 1))
    assert sorted(urls(output)) == ["1", "2", "3", "4", "5"]


def test_few_segments_are_left_however_many_were_written(output: Output) -> None:
    segments = Segments(output)
    for number in range(300):
        segments.append(rows(number))
    assert len(segments_of(output)) == 1 + 2 + 12
    assert read_manifest(output).urls == [f"{number}.tar" for number in range(300)]


def test_large_segments_are_left_as_they_are(output: Output) -> None:
    segments = Segments(output)
    large = rows(*range(8192))
    for _ in range(3):
        segments.append(large)
    for number in range(16):
        segments.append(rows(10_000 + number))
    assert len(segments_of(output)) == 4 and len(read_manifest(output).latest()) == 8192 + 16


def test_the_end_puts_all_into_one_file(output: Output) -> None:
    segments = Segments(output)
    segments.append(rows(1))
    segments.append(rows(2))
    merged = segments_of(output)
    segments.append(rows(3))  # meanwhile
    write_manifest(output, rows(1, 2), merged)
    assert len(segments_of(output)) == 1 and sorted(urls(output)) == ["1", "2", "3"]


def test_a_run_that_is_killed_between_the_file_and_the_segments_leaves_nothing_twice(output: Output) -> None:
    Segments(output).append(rows(1))
    write_manifest(output, rows(1))
    assert read_manifest(output).latest().urls == ["1.tar"]


def test_a_damaged_segment_is_passed_over(output: Output) -> None:
    Segments(output).append(rows(1))
    (name,) = segments_of(output)
    output.write(f"{name.removesuffix('.parquet')}1.parquet", b"PAR1 junk")
    assert urls(output) == ["1"]


def test_what_could_not_be_merged_is_merged_the_next_time(output: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    segments = Segments(output)
    for number in range(15):
        segments.append(rows(number))
    write = Output.write

    def fails(self: Output, name: str, content: bytes) -> None:
        if name.endswith("16.parquet"):
            raise InfrastructureError("the storage hiccups")
        write(self, name, content)

    monkeypatch.setattr(Output, "write", fails)
    segments.append(rows(15))
    assert len(segments_of(output)) == 16
    segments.append(rows(16))
    assert len(segments_of(output)) == 1 and len(read_manifest(output)) == 17


def between(output: Output, monkeypatch: pytest.MonkeyPatch, happens: Callable[[], None]) -> None:
    """Something happens once, after a reader has listed the segments and before it reads them."""
    pending, names = [happens], Output.names

    def listed(self: Output, folder: str = "") -> set[str]:
        found = names(self, folder)
        if pending:
            pending.pop()()
        return found

    monkeypatch.setattr(Output, "names", listed)


def test_who_reads_while_segments_are_merged_misses_none(output: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    segments = Segments(output)
    for number in range(15):
        segments.append(rows(number))
    between(output, monkeypatch, lambda: segments.append(rows(15)))
    assert len(read_manifest(output)) == 16


def test_who_reads_while_a_run_ends_misses_none(output: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    Segments(output).append(rows(1))
    between(output, monkeypatch, lambda: write_manifest(output, rows(1), [*segments_of(output)]))
    assert urls(output) == ["1"]


def test_a_later_look_reads_what_is_new(output: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, segments, read = ManifestReader(output), Segments(output), Output.read
    write_manifest(output, rows(1))
    segments.append(rows(2))
    seen: list[str] = []

    def noted(self: Output, name: str) -> bytes | None:
        seen.append(name)
        return read(self, name)

    monkeypatch.setattr(Output, "read", noted)
    assert reader.read().urls == reader.read().urls == ["1.tar", "2.tar"]
    assert len(seen) == 2
    segments.append(rows(3))
    assert reader.read().urls == ["1.tar", "2.tar", "3.tar"] and len(seen) == 3
    write_manifest(output, rows(1, 2, 3), segments_of(output))
    assert reader.read().urls == ["1.tar", "2.tar", "3.tar"] and seen[3:] == [MANIFEST]


def test_segments_that_another_run_has_put_into_the_file_are_not_missed(output: Output) -> None:
    segments = Segments(output)
    for number in range(15):
        segments.append(rows(number))
    write_manifest(output, read_manifest(output), segments_of(output))
    segments.append(rows(15))
    assert sorted(map(int, urls(output))) == list(range(16))
