"""Lists of URLs that are odd, broken, or made to harm."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from clipmill.jobs.ingesting.url_lists import read_list
from clipmill.pipeline.errors import InputError
from clipmill.pipeline.job.ingest import IngestJob
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given, settings
from hypothesis import strategies as st

NESTED = 100_000


def read(path: Path, content: bytes, caption: str | None = None) -> pa.Table:
    path.write_bytes(content)
    return read_list(str(path), IngestJob(str(path), "out", caption_column=caption))


def refusal(path: Path, content: bytes, caption: str | None = None) -> str:
    with pytest.raises(InputError) as caught:
        read(path, content, caption)
    message = str(caught.value)
    assert "\n" not in message and path.name in message
    return message


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.csv", b"url,c\xffption\nhttp://a,b\n"),
        ("x.tsv", b"\xff\turl\nb\thttp://a\n"),
        ("x.txt", b"http://a\n\xff\n"),
    ],
)
def test_text_that_is_not_utf8_is_refused_with_the_remedy(tmp_path: Path, name: str, content: bytes) -> None:
    assert "not UTF-8; save the list as UTF-8" in refusal(tmp_path / name, content)


def test_captions_that_are_not_utf8_are_refused_by_their_column(tmp_path: Path) -> None:
    message = refusal(tmp_path / "x.csv", b"url,caption\nhttp://a,caf\xe9\n", "caption")
    assert "the column 'caption' is not UTF-8" in message


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b"[\n"])
@pytest.mark.parametrize("name", ["x.json", "x.jsonl"])
def test_json_that_is_nested_deep_is_refused_in_one_line(tmp_path: Path, name: str, opening: bytes) -> None:
    closing = {b"[": b"]", b'{"a":': b"}", b"[\n": b"]\n"}[opening]
    value = b'{"url": ' + opening * NESTED + b"1" + closing * NESTED + b"}"
    assert "cannot be read as a list of URLs" in refusal(tmp_path / name, value)


def test_a_list_that_unpacks_without_end_takes_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "x.csv.gz"
    with gzip.open(path, "wb", compresslevel=9) as file:
        file.write(b"url\n")
        for _ in range(1000):
            file.write(b"http://a\n" * 111_000)  # a gigabyte in one megabyte
    assert path.stat().st_size < 3 << 20
    script = f"""
import resource
from clipmill.jobs.ingesting.url_lists import read_list
from clipmill.pipeline.errors import InputError
from clipmill.pipeline.job.ingest import IngestJob
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    read_list({str(path)!r}, IngestJob({str(path)!r}, "out"))
except InputError as error:
    assert "unpack to more than" in str(error), error
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 400_000  # kB


def test_a_list_that_packs_well_is_read(tmp_path: Path) -> None:
    lines = b"".join(b"http://example.org/pictures/%09d.jpg\n" % i for i in range(200_000))
    assert len(read(tmp_path / "x.txt.gz", gzip.compress(lines))) == 200_000


def test_json_lines_may_lack_columns_and_come_in_any_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clipmill.jobs.ingesting.url_lists._LINES", 7)
    rows = [{"url": f"http://a/{i}"} | ({"caption": f"c{i}"} if i > 9 else {}) for i in range(30)]
    content = "\n\n".join(map(json.dumps, rows)).encode()
    table = read(tmp_path / "x.jsonl", content, "caption")
    assert table.to_pylist() == [{"caption": None, **row} for row in rows]
    assert "line 3" in refusal(tmp_path / "x.jsonl", b'{"url": "http://a"}\n\n{"url"\n')


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.dictionaries(st.sampled_from(["url", "caption", "x"]), VALUES, max_size=3), max_size=4), st.booleans()
)
def test_any_json_is_read_or_refused_in_one_line(rows: list[dict[str, object]], lines: bool) -> None:
    content = "\n".join(map(json.dumps, rows)) if lines else json.dumps(rows)
    url = f"memory://lists/x.{'jsonl' if lines else 'json'}"
    MemoryFileSystem().pipe(url, content.encode())
    try:
        table = read_list(url, IngestJob(url, "out", caption_column="caption"))
    except InputError as error:
        assert "\n" not in str(error)
    else:
        assert len(table) <= len(rows)


def test_parquet_lists_are_read(tmp_path: Path) -> None:
    pq.write_table(pa.table({"url": ["http://a", None, ""], "n": [1, 2, 3]}), tmp_path / "x.parquet")
    assert read_list(str(tmp_path / "x.parquet"), IngestJob("x", "out"))["url"].to_pylist() == ["http://a"]
