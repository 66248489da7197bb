"""Files of a dataset appear whole or not at all, in a folder and in an object store alike."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import s3
from clipmill.pipeline.dataset.layout import OWN
from clipmill.pipeline.dataset.output import Output
from clipmill.pipeline.errors import OutputError, StorageFullError
from fsspec.implementations.memory import MemoryFileSystem

# Begins to write a file, says so, and waits to be killed or, on a line of input, commits.
WRITER = """
import sys
from clipmill.pipeline.dataset.output import Output
with Output.at(sys.argv[1]).staged("part.parquet") as path:
    path.write_bytes(b"half")
    print("begun", flush=True)
    sys.stdin.readline()
    path.write_bytes(b"whole")
"""


@pytest.fixture(params=["folder", "memory", "s3"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Output]:
    if request.param == "folder":
        yield Output.at(str(tmp_path / "new" / "out"))
    elif request.param == "s3":
        yield Output.at(request.getfixturevalue("bucket").url("out"))
    else:
        store = MemoryFileSystem()
        store.store.clear()
        yield Output.at("memory://bucket/out")
        store.store.clear()
        store.pseudo_dirs[:] = [""]


def staged(folder: Path) -> list[Path]:
    return sorted((folder / OWN / "staging").iterdir())


def writer(folder: Path) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout and process.stdout.readline() == b"begun\n"
    return process


def test_what_is_written_can_be_read(output: Output) -> None:
    output.prepare()
    output.write("a.parquet", b"one")
    output.write(".clipmill/plan.json", b"two")
    assert output.read("a.parquet") == b"one" and output.read(".clipmill/plan.json") == b"two"
    with output.open("a.parquet") as file:
        file.seek(1)
        assert file.read() == b"ne"
    output.write("a.parquet", b"three")
    assert output.read("a.parquet") == b"three"


def test_a_part_that_is_there_stays_unless_it_is_to_be_replaced(output: Output) -> None:
    output = output.prepare()
    for content in (b"one", b"two"):
        with output.staged("a.parquet") as path:
            path.write_bytes(content)
    assert output.conditional != output.is_local  # a folder's second part takes the first one's place
    assert output.read("a.parquet") == (b"one" if output.conditional else b"two")
    with output.staged("a.parquet", replace=True) as path:
        path.write_bytes(b"three")
    assert output.read("a.parquet") == b"three"


def test_what_is_not_there_is_none(output: Output) -> None:
    for _ in range(2):
        assert output.read("a.parquet") is None and output.read(".clipmill/plan.json") is None
        assert output.names() == output.parts() == output.names(".clipmill") == set()
        output.delete("a.parquet")
        output.prepare()


@pytest.mark.parametrize("prepared", [True, False])
def test_of_several_who_begin_a_file_one_wins(output: Output, prepared: bool) -> None:
    output = output.prepare() if prepared else output
    assert output.write_new(".clipmill/plan.json", b"first")
    assert not output.write_new(".clipmill/plan.json", b"second")
    assert output.read(".clipmill/plan.json") == b"first" and output.names(".clipmill") == {"plan.json"}
    if output.is_local or output.conditional:
        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(lambda i: output.write_new("race", str(i).encode()), range(8)))
        if output.url.startswith("memory:") or (output.url.startswith("s3:") and s3.kind() == "moto"):
            assert any(won)  # these look first and then write
        else:
            assert won.count(True) == 1 and output.read("race") == str(won.index(True)).encode()


def test_a_file_system_without_links_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_link(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_link)
    output = Output.at(str(tmp_path))
    assert output.write_new("a", b"first") and not output.write_new("a", b"second")
    assert output.read("a") == b"first" and staged(tmp_path) == []


def test_parts_are_told_from_everything_else(output: Output) -> None:
    output.prepare()
    for name in ("a.parquet", "b.parquet", "_c.parquet", ".d.parquet", "e.json"):
        output.write(f"data/{name}", b"x")
    for name in ("g.parquet", "h.json", ".clipmill/f.parquet"):
        output.write(name, b"x")
    assert output.parts() == {"a.parquet", "b.parquet"}
    assert output.names() == {"g.parquet", "h.json"}
    assert output.strangers() == {"data/a.parquet", "data/b.parquet", "g.parquet"}
    assert output.names(".clipmill") == {"f.parquet"}


def test_nothing_is_seen_before_the_commit(output: Output) -> None:
    output.prepare()
    with output.staged("data/a.parquet") as path:
        path.write_bytes(b"half")
        assert output.parts() == set() and output.read("data/a.parquet") is None
        path.write_bytes(b"whole")
    assert output.parts() == {"a.parquet"} and output.read("data/a.parquet") == b"whole"


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
def test_an_exception_leaves_nothing(output: Output, error: BaseException, tmp_path: Path) -> None:
    output.prepare()
    with pytest.raises(type(error)), output.staged("a.parquet") as path:
        path.write_bytes(b"half")
        raise error
    assert output.names() == set() and output.read("a.parquet") is None
    assert not path.exists()
    assert not output.is_local or staged(Path(output.url)) == []


def test_an_exception_leaves_what_was_there(output: Output) -> None:
    output.prepare()
    output.write("a.parquet", b"old")
    with pytest.raises(ValueError), output.staged("a.parquet") as path:
        path.write_bytes(b"new")
        raise ValueError
    assert output.read("a.parquet") == b"old"


def test_a_file_that_was_never_written_is_not_committed(output: Output) -> None:
    output.prepare()
    with pytest.raises(FileNotFoundError), output.staged("a.parquet"):
        pass
    assert output.names() == set()


def test_deleting_twice_is_no_error(output: Output) -> None:
    output.prepare()
    output.write("_SUCCESS", b"")
    output.delete("_SUCCESS")
    output.delete("_SUCCESS")
    assert output.names() == set()


def test_preparing_leaves_no_trace_but_folders(output: Output) -> None:
    output.prepare()
    assert output.names() == output.names(OWN) == set()
    output.prepare()


def test_relative_and_spelt_out_folders_are_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert {Output.at(text).url for text in ("out", "./out/", f"file://{tmp_path}/x/../out")} == {str(tmp_path / "out")}


# --- what is left behind ---------------------------------------------------------------------------------------------


def test_a_killed_process_leaves_nothing_that_counts_and_is_cleared_up_after(tmp_path: Path) -> None:
    process = writer(tmp_path)
    process.send_signal(signal.SIGKILL)
    process.wait()
    output = Output.at(str(tmp_path))
    assert output.names() == set() and [path.read_bytes() for path in staged(tmp_path)] == [b"half"]
    output.prepare()
    assert staged(tmp_path) == []


def test_preparing_leaves_living_processes_alone(tmp_path: Path) -> None:
    process = writer(tmp_path)
    output = Output.at(str(tmp_path))
    output.prepare()
    assert [path.read_bytes() for path in staged(tmp_path)] == [b"half"]
    process.communicate(b"\n", timeout=30)
    assert process.returncode == 0
    assert output.read("part.parquet") == b"whole" and staged(tmp_path) == []


def test_another_machines_file_is_cleared_when_it_is_old(tmp_path: Path) -> None:
    output = Output.at(str(tmp_path))
    output.prepare()
    folder = tmp_path / OWN / "staging"
    for name, hours in (("elsewhere.1.2.young.parquet", 1), ("elsewhere.1.2.old.parquet", 25), ("odd", 25)):
        (folder / name).touch()
        os.utime(folder / name, (time.time() - hours * 3600,) * 2)
    output.prepare()
    assert [path.name for path in staged(tmp_path)] == ["elsewhere.1.2.young.parquet"]


# --- outputs that are none -------------------------------------------------------------------------------------------


def refusal(output: Output) -> str:
    with pytest.raises(OutputError) as caught:
        output.prepare()
    said = str(caught.value)
    assert output.url in said and "\n" not in said
    return said


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for way in ("file", "file/below"):
        assert "there is a file where a folder should be" in refusal(Output.at(str(tmp_path / way)))
    assert (tmp_path / "file").read_text() == "x"


@contextmanager
def not_as_root() -> Iterator[None]:
    """Root may write anywhere."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)  # nobody
    try:
        yield
    finally:
        os.seteuid(before)


def test_a_folder_that_may_not_be_written_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with not_as_root():
        assert "Permission denied" in refusal(Output.at(str(tmp_path / "out")))


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PermissionError(13, "Permission denied"), "Permission denied"),
        (PermissionError(None), "permission denied; check its access rights or your credentials"),
        (NotImplementedError("read\n only"), "read only"),
    ],
)
def test_a_store_that_denies_writing_is_refused(monkeypatch: pytest.MonkeyPatch, error: Exception, said: str) -> None:
    def deny(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", deny)
    assert refusal(Output.at("memory://bucket/out")) == f"memory://bucket/out: cannot be written to: {said}"


def test_a_disk_that_fills_up_is_told_of_a_folder_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageFullError, match="no space left on device; make room"):
        Output.at(str(tmp_path)).prepare()


def test_a_scheme_that_nobody_knows_is_refused() -> None:
    with pytest.raises(OutputError):
        Output("nosuch://bucket/out").prepare()
