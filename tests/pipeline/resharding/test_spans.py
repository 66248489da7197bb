"""Byte ranges of samples in a tar, and when they are worth asking for."""

from __future__ import annotations

import io
import tarfile
from typing import Any

import numpy as np
from clipmill.pipeline.inputs.tar_input import samples_in
from clipmill.pipeline.resharding.spans import DISK, NETWORK, Pace, Span, spans_of, worth_asking_for
from hypothesis import given
from hypothesis import strategies as st

FREE = Pace(0.0, 1e9)  # every byte counts, no request does
Files = list[tuple[str, bytes]]


@st.composite
def samples(draw: st.DrawFn) -> list[tuple[str, Files]]:
    """Keys and files: with or without an image, in any order, some with files of other kinds or very long names."""
    made = []
    for number in range(draw(st.integers(1, 8))):
        key = f"{number:05d}" + "k" * draw(st.sampled_from([0, 0, 0, 120]))
        kinds = draw(st.lists(st.sampled_from(["jpg", "json", "txt", "cls", "png"]), min_size=1, unique=True))
        if kinds == ["cls"]:
            kinds.append("txt")  # or it is no sample
        made.append((key, [(kind, draw(st.binary(max_size=1500))) for kind in draw(st.permutations(kinds))]))
    return made


def packed(made: list[tuple[str, Files]], format: int) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=format) as tar:
        for key, files in made:
            for kind, content in files:
                info = tarfile.TarInfo(f"{key}.{kind}")
                info.size = len(content) if kind != "json" else 2
                tar.addfile(info, io.BytesIO(content if kind != "json" else b"{}"))
    return file.getvalue()


@given(samples(), st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]), st.data())
def test_a_span_has_all_files_of_its_sample_and_the_rest_tells_them_apart(
    made: list[tuple[str, Files]], format: int, data: Any
) -> None:
    tar = packed(made, format)
    whole = list(samples_in(io.BytesIO(tar), 0, every_file=True))
    assert [group.key for group in whole] == [key for key, _ in made]
    rows = data.draw(st.lists(st.integers(0, len(made) - 1), min_size=1, unique=True).map(sorted))
    offsets = np.array([-1 if group.image_offset is None else group.image_offset for group in whole])
    sizes = np.array([len(group.image or b"") for group in whole])
    spans = spans_of([group.key for group in whole], offsets, sizes, rows, len(tar))
    assert spans is not None
    requests = worth_asking_for(rows, spans, 10**9, data.draw(st.sampled_from([FREE, DISK, NETWORK])))
    assert requests is not None
    assert [row for request in requests for row in request.rows] == rows
    for request in requests:
        stream = io.BytesIO(tar[request.span.start : request.span.stop])
        found = {(g.key, g.image_offset): g for g in samples_in(stream, request.span.start, every_file=True)}
        for row in request.rows:
            assert found[whole[row].key, whole[row].image_offset] == whole[row]


def test_a_key_that_comes_twice_is_left_to_who_reads_everything() -> None:
    offsets, sizes = np.array([512, 2048, 4096]), np.array([100, 100, 100])
    assert spans_of(["a", "b", "a"], offsets, sizes, [0], 6000) is None
    assert spans_of(["a", "b", "a"], offsets, sizes, [1], 6000) == [Span(1024, 4096)]


def spread(count: int, size: int, every: int) -> list[Span]:
    return [Span(i * every, i * every + size) for i in range(count)]


def asked(spans: list[Span], end: int, pace: Pace) -> Any:
    return worth_asking_for(range(len(spans)), spans, end, pace)


def test_few_samples_are_asked_for_and_most_are_read_in_passing() -> None:
    shard = 1 << 30  # 10,000 samples of 100 kB
    few, most = spread(100, 100_000, shard // 100), spread(9_000, 100_000, shard // 9_000)
    assert len(asked(few, shard, NETWORK)) == 100
    assert len(asked(few, shard, DISK)) == 100
    assert asked(most, shard, NETWORK) is None
    assert asked(spread(10_000, 107_374, 107_374), shard, DISK) is None


def test_what_lies_between_is_read_along_where_that_is_no_slower_than_another_request() -> None:
    pace = Pace(0.01, 1e6)  # a request takes as long as 10,000 bytes
    assert len(asked([Span(0, 1000), Span(11_000, 12_000)], 10**6, pace)) == 1
    assert len(asked([Span(0, 1000), Span(11_001, 12_000)], 10**6, pace)) == 2


def test_a_request_for_many_samples_stays_small_enough_to_be_held() -> None:
    requests = asked(spread(5_000, 100_000, 100_000), 10**10, NETWORK)
    assert max(request.span.stop - request.span.start for request in requests) <= 16 << 20
    assert len(requests) < 40
