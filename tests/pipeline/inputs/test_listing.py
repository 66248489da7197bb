"""Inputs: paths, globs, braces, folders, lists, on several kinds of storage."""

import functools
import http.server
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest
from clipmill.pipeline.errors import InfrastructureError
from clipmill.pipeline.inputs.listing import list_shards
from fsspec.implementations.http import HTTPFileSystem
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from input_kit import refusal, write


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b/10.tar", "b/2.tar", "b/2.parquet", "b/2_stats.json", "c/deep/x.tar.gz", "c/deep/y.tgz"):
        write(tmp_path / name)
    for name in ("b/_tmp/z.tar", "b/.z.tar", "b/_z.tar", "_clipmill/z.tar", ".cache/z.tar"):
        write(tmp_path / name)
    return tmp_path


def listed(folder: Path, *inputs: str) -> list[str]:
    """The shards' paths relative to `folder`, which `{}` in an input stands for."""
    shards = list_shards([text.replace("{}", str(folder)) for text in inputs])
    return [os.path.relpath(shard.url, folder) for shard in shards]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("{}/b/2.tar", ["b/2.tar"]),
        ("file://{}/b/../b/2.tar", ["b/2.tar"]),
        ("{}/b", ["b/10.tar", "b/2.tar"]),
        ("{}/b/", ["b/10.tar", "b/2.tar"]),
        ("{}", ["b/10.tar", "b/2.tar", "c/deep/x.tar.gz", "c/deep/y.tgz"]),
        ("{}/*", ["b/10.tar", "b/2.tar", "c/deep/x.tar.gz", "c/deep/y.tgz"]),
        ("{}/b/*", ["b/10.tar", "b/2.tar"]),
        ("{}/*/?.tar", ["b/2.tar"]),
        ("{}/**/*.t*gz", ["c/deep/x.tar.gz", "c/deep/y.tgz"]),
        ("{}/**", ["b/10.tar", "b/2.tar", "c/deep/x.tar.gz", "c/deep/y.tgz"]),
        ("{}/b/{2,10}.tar", ["b/10.tar", "b/2.tar"]),
        ("{}/{b,c/deep}/[2x]*", ["b/2.tar", "c/deep/x.tar.gz"]),
        ("{}/b/_z.tar", ["b/_z.tar"]),
        ("{}/b/_*", ["b/_z.tar"]),
        ("{}/b/2.parquet", ["b/2.parquet"]),
        ("{}/b/{2..2}.parquet", ["b/2.parquet"]),
        ("{}/b/2.*", ["b/2.tar"]),
    ],
)
def test_each_kind_of_input_names_its_shards(folder: Path, text: str, names: list[str]) -> None:
    assert listed(folder, text) == names


def test_inputs_keep_their_order_and_every_shard_comes_once(folder: Path) -> None:
    assert listed(folder, "{}/c", "{}/b/2.tar", "{}/b", "file://{}/b/10.tar") == [
        "c/deep/x.tar.gz",
        "c/deep/y.tgz",
        "b/2.tar",
        "b/10.tar",
    ]


def test_relative_paths_become_absolute_ones(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder / "c")
    assert [shard.url for shard in list_shards(["../b/2.tar"])] == [str(folder / "b" / "2.tar")]


def test_listing_and_asking_for_one_file_agree(folder: Path, memory: MemoryFileSystem) -> None:
    memory.pipe("/m/2.tar", b"12")
    assert list_shards([f"{folder}/b/2.tar"]) == list_shards([f"{folder}/b/2*.tar"])
    assert list_shards(["memory://m/2.tar"]) == list_shards(["memory://m"])
    (shard,) = list_shards(["memory:///m/2.tar"])
    assert (shard.url, shard.size) == ("memory://m/2.tar", 2)


def test_the_etag_changes_with_the_file(folder: Path) -> None:
    before = list_shards([f"{folder}/b/2.tar"])[0]
    os.utime(folder / "b" / "2.tar", (1, 1))
    touched = list_shards([f"{folder}/b/2.tar"])[0]
    assert before.size == touched.size == 4
    assert before.etag != touched.etag


def test_lists_name_inputs_relative_to_themselves(folder: Path) -> None:
    write(folder / "more.list", b"@c/sub.txt\n")
    write(folder / "c" / "sub.txt", b"deep/x.tar.gz")
    write(folder / "all.txt", f"# comment\n\n{folder}/b/10.tar\r\n  b/{{2..2}}.tar  # why\nmore.list\n".encode())
    names = ["b/10.tar", "b/2.tar", "c/deep/x.tar.gz"]
    assert listed(folder, "{}/all.txt") == names
    assert listed(folder, "@{}/all.txt") == names
    (folder / "all.txt").rename(folder / "all")
    assert listed(folder, "@{}/all") == names


def test_a_list_on_remote_storage_is_relative_to_its_own_folder(memory: MemoryFileSystem) -> None:
    memory.pipe({"/m/a.tar": b"1", "/m/l.txt": b"a.tar\n/nowhere.tar"})
    assert "/nowhere.tar: no such file" in refusal("memory://m/l.txt")
    memory.pipe("/m/l.txt", b"a.tar")
    assert [shard.url for shard in list_shards(["memory://m/l.txt"])] == ["memory://m/a.tar"]


def test_names_with_pattern_characters_can_be_given_outright(folder: Path) -> None:
    write(folder / "a[1].tar")
    assert listed(folder, "{}/a[1].tar") == ["a[1].tar"]


def test_links_are_followed_and_loops_are_not(folder: Path) -> None:
    (folder / "b" / "link.tar").symlink_to("../c/deep/y.tgz")
    (folder / "d").mkdir()
    (folder / "d" / "data").symlink_to("../c")
    (folder / "d" / "loop").symlink_to("..")
    assert listed(folder, "{}/b") == ["b/10.tar", "b/2.tar", "b/link.tar"]
    assert listed(folder, "{}/b") == listed(folder, "{}/b/*.tar")
    assert list_shards([f"{folder}/b/link.tar"]) == list_shards([f"{folder}/b"])[2:]
    assert listed(folder, "{}/d") == ["d/data/deep/x.tar.gz", "d/data/deep/y.tgz"]
    (folder / "b" / "gone.tar").symlink_to("nowhere")
    assert "link" in refusal(f"{folder}/b")


def test_what_is_wrong_is_said_in_one_line(folder: Path, memory: MemoryFileSystem) -> None:
    write(folder / "empty.txt", b"# nothing\n")
    write(folder / "self.txt", b"self.txt\n")
    write(folder / "binary.txt", b"\xff\xfe\x00")
    (folder / "none").mkdir()
    assert refusal() == "no input: name at least one shard, folder, glob or list"
    assert refusal(f"{folder}/q.tar") == f"{folder}/q.tar: no such file or folder"
    assert refusal(f"{folder}/q/q.tar").endswith(f"nor is there a {folder}/q")
    assert "no such" in refusal(f"{folder}/b/2.tar/x.tar")
    assert "holds no .tar shards" in refusal(f"{folder}/none")
    assert "does not have a shard's name" in refusal(f"{folder}/b/2_stats.json")
    assert "does not have a shard's name" in refusal(f"{folder}/b/*.json")
    assert "only the table beside a tar" in refusal(f"{folder}/b/*.parquet")
    assert "matches nothing" in refusal(f"{folder}/b/x*.tar")
    assert refusal(f"{folder}/q/*.tar").startswith(f"{folder}/q/*.tar: matches nothing; {folder}/q: no such")
    assert "no such" in refusal(f"{folder}/q/*.tar")
    assert "no such" in refusal(f"{folder}/q.txt")
    assert "the list is empty" in refusal(f"{folder}/empty.txt")
    assert "includes itself" in refusal(f"{folder}/self.txt")
    assert "UTF-8" in refusal(f"{folder}/binary.txt")
    assert "Protocol not known" in refusal("fish://b/a.tar")
    assert "limit" in refusal(f"{folder}/{{0..99999999}}.tar")
    assert "no such" in refusal("memory://q")


def test_names_of_shards_must_be_utf8(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.tar")).touch()
    assert "caf\\xe9.tar: the name is not UTF-8" in refusal(str(tmp_path))


@pytest.mark.parametrize("count", [5, 500])
def test_missing_files_of_a_range_are_counted(folder: Path, memory: MemoryFileSystem, count: int) -> None:
    first = f"no such file or folder; {count - 2} of the {count} files"
    for i in (0, 2):
        write(folder / f"{i:03d}.tar")
        memory.pipe(f"/m/{i:03d}.tar", b"1")
    names = f"{{000..{count - 1:03d}}}.tar"
    assert f"{folder}/001.tar: {first}" in refusal(f"{folder}/{names}")
    assert f"memory://m/001.tar: {first}" in refusal(f"memory://m/{names}")
    assert f"{count} of the {count} files" in refusal(f"memory://q/{names}")


def test_permission_denied_is_said_as_such(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(self: LocalFileSystem, path: str, **kwargs: Any) -> None:
        raise PermissionError(path)

    monkeypatch.setattr(LocalFileSystem, "ls", denied)
    assert "permission denied" in refusal(f"{folder}/b")
    assert "permission denied" in refusal(f"{folder}/*/2.tar")
    write(folder / "00.tar")
    # files may be readable in a folder that may not be listed
    assert "29 of the 30 files" in refusal(f"{folder}/{{00..29}}.tar")


def test_storage_that_does_not_answer_is_not_the_users_mistake(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def timeout(self: LocalFileSystem, path: str, **kwargs: Any) -> None:
        raise TimeoutError("took\ntoo long")

    monkeypatch.setattr(LocalFileSystem, "ls", timeout)
    assert "took too long" in refusal(f"{folder}/b/*.tar", error=InfrastructureError)


@pytest.mark.parametrize("how", ["{}", "{}/*.tar", "{}/{00000..19999}.tar", "{}/list.txt", "each"])
def test_a_folder_of_20000_shards_costs_one_listing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    for i in range(20_000):
        (tmp_path / f"{i:05d}.tar").touch()
    (tmp_path / "list.txt").write_text("\n".join(f"{i:05d}.tar" for i in range(20_000)))
    calls = {"ls": 0, "info": 0}
    real = {name: getattr(LocalFileSystem, name) for name in calls}

    def counting(name: str) -> Callable[..., Any]:
        def call(self: LocalFileSystem, path: Any, *args: Any, **kwargs: Any) -> Any:
            calls[name] += not isinstance(path, os.DirEntry)  # those are the listing's own
            return real[name](self, path, *args, **kwargs)

        return call

    for name in calls:
        monkeypatch.setattr(LocalFileSystem, name, counting(name))
    inputs = [f"{tmp_path}/{i:05d}.tar" for i in range(20_000)] if how == "each" else [how.replace("{}", str(tmp_path))]
    assert len(list_shards(inputs)) == 20_000
    assert calls["ls"] == 1
    assert calls["info"] <= 2


def test_memory_folders_and_globs(memory: MemoryFileSystem) -> None:
    memory.pipe({f"/m/{d}/{i}.tar": b"1" for d in "ab" for i in range(2)})
    urls = [f"memory://m/{d}/{i}.tar" for d in "ab" for i in range(2)]
    for text in ("memory://m", "memory://m/*/*.tar", "memory://m/{a,b}/{0..1}.tar", "memory://m/**/?.tar"):
        assert [shard.url for shard in list_shards([text])] == urls
    assert fsspec.open(urls[0]).open().read() == b"1"


def test_web_servers(folder: Path) -> None:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: Any) -> None:
            pass

        def do_HEAD(self) -> None:
            if "denied" in self.path:
                self.send_error(403)
            else:
                super().do_HEAD()

        def do_GET(self) -> None:
            if "denied" in self.path:
                self.send_error(403)
            else:
                super().do_GET()

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    base = f"http://127.0.0.1:{server.server_port}"
    try:
        for text in ("b/2.tar", "b/2.tar?download=true"):
            (shard,) = list_shards([f"{base}/{text}"])
            assert (shard.url, shard.size) == (f"{base}/{text}", 4)
            assert shard.etag
        for text in (f"{base}/b/", f"{base}/b", f"{base}/b/*.tar", f"{base}/b/{{2,10}}.tar"):
            shards = list_shards([text])
            assert [shard.url for shard in shards] == [f"{base}/b/10.tar", f"{base}/b/2.tar"]
            assert all(shard.size == 4 and shard.etag for shard in shards)
        assert "no such" in refusal(f"{base}/b/3.tar")
        assert "permission denied" in refusal(f"{base}/denied.tar")
        assert [shard.url for shard in list_shards([f"{base}/b/2.parquet"])] == [f"{base}/b/2.parquet"]
        assert "does not have a shard's name" in refusal(f"{base}/b/2_stats.json")
    finally:
        server.shutdown()
        server.server_close()
    HTTPFileSystem.clear_instance_cache()
    refusal(f"{base}/b/2.tar", error=InfrastructureError)


def test_path_objects_are_accepted(folder: Path) -> None:
    assert list_shards([folder / "b"]) == list_shards([f"{folder}/b"])
