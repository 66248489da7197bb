"""Remote files as streams: right bytes whatever breaks, no more held than promised."""

import io
import random
import tarfile
import threading
import time
from typing import Any

import pytest
from clipmill.pipeline.errors import ShardError
from clipmill.pipeline.inputs.shards import read_samples
from clipmill.pipeline.records import Shard
from clipmill.pipeline.storage.remote import _KEEP, RemoteFile
from clipmill.pipeline.storage.retry import ATTEMPTS
from fake_ranges import CONTENT, FakeStorage
from fakes import jpeg
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given, settings
from hypothesis import strategies as st


def remote(storage: FakeStorage, block: int = 1000, size: int | None = None, **kwargs: Any) -> RemoteFile:
    return RemoteFile(storage, "s3://b/x.tar", len(storage.content) if size is None else size, block, **kwargs)


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    waited: list[float] = []
    monkeypatch.setattr("clipmill.pipeline.storage.retry.time.sleep", waited.append)
    return waited


@settings(deadline=None)
@given(st.binary(max_size=300), st.integers(1, 400), st.lists(st.integers(0, 50), max_size=40))
def test_the_bytes_come_out_right_whatever_the_block_size(content: bytes, block: int, reads: list[int]) -> None:
    with remote(FakeStorage(content), block) as file:
        read = b"".join(file.read(size) or b"" for size in reads)
        assert read == content[: len(read)]
        assert read + file.readall() == content
        assert file.read(1) == b""
    with io.BufferedReader(remote(FakeStorage(content), block), 16) as buffered:
        expected = io.BytesIO(content)
        assert [buffered.read(size) for size in reads] == [expected.read(size) for size in reads]
        assert buffered.read() == expected.read()


@settings(deadline=None)
@given(st.integers(1, 120), st.lists(st.tuples(st.integers(0, 120), st.integers(0, 60)), max_size=30))
def test_seeking_reads_what_is_there(block: int, places: list[tuple[int, int]]) -> None:
    storage = FakeStorage(CONTENT[:100])
    with io.BufferedReader(remote(storage, block), 8) as file:
        for start, size in places:
            assert file.seek(start) == file.tell() == start
            assert file.read(size) == CONTENT[:100][start : start + size]
        assert file.seek(-10, io.SEEK_END) == 90
        assert file.seek(5, io.SEEK_CUR) == 95
        assert file.read() == CONTENT[95:100]
    with remote(storage) as file, pytest.raises(ValueError, match="negative"):
        file.seek(-101, io.SEEK_END)


def test_a_whole_read_asks_for_every_block_once_and_holds_few() -> None:
    storage = FakeStorage()
    file = remote(storage)
    read = b""
    while piece := file.read(300):
        read += piece
        assert len(file._pieces) <= _KEEP
    assert read == CONTENT
    assert storage.calls == {(i * 1000, i * 1000 + 1000 + (i == 9)): 1 for i in range(10)}
    file.close()


def test_the_next_blocks_are_fetched_while_one_is_read() -> None:
    all_three = threading.Barrier(3, timeout=20)

    def wait(start: int, *_: int) -> None:
        if start < 3000:
            all_three.wait()

    with remote(FakeStorage(on_call=wait)) as file:
        assert file.read(10) == CONTENT[:10]
    assert not all_three.broken


def test_blocks_side_by_side_are_kept() -> None:
    storage = FakeStorage()
    with remote(storage, keep=6) as file:
        for i in range(0, 1000, 10):
            for start in (0, 5000):
                file.seek(start + i)
                assert file.read(10) == CONTENT[start + i :][:10]
    assert set(storage.calls.values()) == {1}


def test_what_fails_in_passing_is_asked_for_again(pauses: list[float]) -> None:
    def flaky(start: int, end: int, attempt: int) -> bytes | None:
        if attempt == 1:
            raise ConnectionResetError
        return CONTENT[start : end - 1 - start // 1000 % 2] if attempt == 2 and end < 10_000 else None  # cut short

    storage = FakeStorage(on_call=flaky)
    with remote(storage) as file:
        assert file.readall() == CONTENT
    assert min(storage.calls.values()) >= 2
    assert len(pauses) == sum(storage.calls.values()) - 10
    assert all(pause > 0 for pause in pauses)


def test_what_keeps_failing_is_raised_and_the_place_is_kept() -> None:
    broken = True

    def down(start: int, end: int, attempt: int) -> None:
        if broken and start == 2000:
            raise TimeoutError("slow")

    storage = FakeStorage(on_call=down)
    with remote(storage) as file:
        assert file.read(2000) + (file.read(1000) or b"") == CONTENT[:2000]
        for _ in range(2):
            with pytest.raises(TimeoutError, match="slow"):
                file.read(1)
        assert isinstance(file.failure, TimeoutError)
        assert storage.calls[2000, 3000] == 2 * ATTEMPTS
        broken = False
        assert file.readall() == CONTENT[2000:]


def test_final_errors_are_raised_at_once(pauses: list[float]) -> None:
    def gone(*_: int) -> None:
        raise FileNotFoundError

    storage = FakeStorage(on_call=gone)
    with remote(storage) as file, pytest.raises(FileNotFoundError):
        file.read(1)
    assert set(storage.calls.values()) == {1}
    assert pauses == []


def test_an_object_of_another_length_than_listed_is_not_taken_for_whole() -> None:
    with remote(FakeStorage(), size=9500) as file, pytest.raises(ShardError, match="longer than the 9,500 bytes"):
        file.readall()
    with remote(FakeStorage(), size=9000) as file, pytest.raises(ShardError, match="longer"):
        file.readall()
    with remote(FakeStorage(), size=10_001) as file, pytest.raises(OSError, match="0 bytes of 1 at 10000"):
        file.readall()


def test_an_empty_object_has_no_bytes() -> None:
    storage = FakeStorage(b"")
    with remote(storage) as file:
        assert file.read(10) == b""
    assert not storage.calls


def test_closing_ends_the_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, closed = threading.Event(), threading.Event()

    def fails(*_: int) -> None:
        asked.set()
        raise ConnectionResetError

    monkeypatch.setattr("clipmill.pipeline.storage.retry.time.sleep", lambda _: closed.wait(20))
    storage = FakeStorage(on_call=fails)
    file = remote(storage, size=1000)

    def read() -> None:
        with pytest.raises(ShardError):
            file.read(1)

    reading = threading.Thread(target=read)
    reading.start()
    assert asked.wait(20)
    file.close()
    closed.set()
    reading.join(20)
    assert not reading.is_alive()
    assert sum(storage.calls.values()) == 1
    with pytest.raises(ValueError, match="closed"):
        file.read(1)


def test_threads_do_not_outlive_the_file() -> None:
    before = threading.active_count()
    for _ in range(20):
        with remote(FakeStorage()) as file:
            file.read(1)
    until = time.monotonic() + 20
    while threading.active_count() > before and time.monotonic() < until:
        threading.Event().wait(0.01)  # sleep is patched
    assert threading.active_count() <= before


# --- in the tar reader -----------------------------------------------------------------------------------------------


def archive(count: int) -> tuple[bytes, list[bytes]]:
    images = [jpeg(i) for i in range(count)]
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for i, image in enumerate(images):
            info = tarfile.TarInfo(f"{i:05d}.jpg")
            info.size = len(image)
            tar.addfile(info, io.BytesIO(image))
    return file.getvalue(), images


@pytest.mark.parametrize("known", [True, False])
def test_tars_are_read_through_failures(monkeypatch: pytest.MonkeyPatch, known: bool) -> None:
    data, images = archive(40)
    MemoryFileSystem().pipe("/remote/x.tar", data)
    chance, real = random.Random(0), MemoryFileSystem.cat_file

    def flaky(self: MemoryFileSystem, path: str, start: int, end: int) -> bytes:
        if chance.random() < 0.3:
            raise OSError(16, "SlowDown")
        got = bytes(real(self, path, start=start, end=end))
        return got[: len(got) // 2] if chance.random() < 0.2 else got

    monkeypatch.setattr(MemoryFileSystem, "cat_file", flaky)
    monkeypatch.setattr("clipmill.pipeline.inputs.tar_input.RemoteFile", lambda *args: RemoteFile(*args, block=5000))
    samples = list(read_samples(Shard("memory://remote/x.tar", len(data) if known else None)))
    assert [s.image for s in samples] == images
    assert all(data[s.image_offset :].startswith(s.image) for s in samples if s.image)


def test_a_tar_that_is_gone_or_shut_is_a_shard_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ShardError, match="no such file"):
        list(read_samples(Shard("memory://remote/gone.tar", 1000)))
    MemoryFileSystem().pipe("/remote/x.tar", b"x" * 2000)

    def denied(*_: Any, **__: Any) -> bytes:
        raise PermissionError

    monkeypatch.setattr(MemoryFileSystem, "cat_file", denied)
    with pytest.raises(ShardError, match="permission denied"):
        list(read_samples(Shard("memory://remote/x.tar", 2000)))


def test_a_tar_that_has_grown_is_a_shard_error() -> None:
    data, _ = archive(5)
    MemoryFileSystem().pipe("/remote/x.tar", data)
    with pytest.raises(ShardError, match="longer than"):
        list(read_samples(Shard("memory://remote/x.tar", len(data) - 512)))
