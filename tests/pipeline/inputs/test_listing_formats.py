"""Inputs of other formats than tars, among each other and among tars."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from clipmill.pipeline.dataset.output import Output
from clipmill.pipeline.embedding.embed_shard import embed_shard
from clipmill.pipeline.errors import InputError
from clipmill.pipeline.inputs.listing import list_shards, look_into
from fakes import fake_tools, write_pairs
from fsspec.implementations.memory import MemoryFileSystem
from input_kit import refusal, write


@pytest.fixture(params=["local", "memory"])
def tree(request: pytest.FixtureRequest, tmp_path: Path, memory: MemoryFileSystem) -> Callable[..., str]:
    """Writes files, and returns the URL of the folder that they are in."""

    def fill(*names: str) -> str:
        for name in names:
            if request.param == "memory":
                memory.pipe(f"/m/{name}", b"1")
            else:
                write(tmp_path / "m" / name, b"1")
        return "memory://m" if request.param == "memory" else f"{tmp_path}/m"

    return fill


def below(top: str, *inputs: str) -> list[str]:
    return [shard.url.removeprefix(f"{top}/") for shard in list_shards([text.replace("{}", top) for text in inputs])]


def test_parquet_files_are_shards_unless_they_list_a_tars_rows(tree: Callable[..., str]) -> None:
    top = tree(
        "0.tar", "0.parquet", "1.TAR.GZ", "1.parquet", "2.tgz", "2.parquet", "3.parquet", "_4.parquet", ".5.parquet"
    )
    tree("deep/0.parquet", "deep/1.tar", "other/9.parquet")
    direct = ["0.tar", "1.TAR.GZ", "2.tgz", "3.parquet"]
    assert below(top, "{}") == below(top, "{}/*") == direct
    assert below(top, "{}/**") == [*direct, "deep/0.parquet", "deep/1.tar", "other/9.parquet"]
    assert below(top, "{}/*.parquet") == ["3.parquet"]
    assert below(top, "{}/{0,3,_4}.parquet") == ["0.parquet", "3.parquet", "_4.parquet"]
    names = [f"{i:02d}.{e}" for i in range(40) for e in ("tar", "parquet")]
    tree(*(f"many/{name}" for name in names))
    assert below(top, "{}/many/{00..39}.parquet") == [f"many/{name}" for name in names[1::2]]
    assert below(top, "{}/many") == [f"many/{name}" for name in names[::2]]


def test_a_folder_of_images_is_a_shard(tree: Callable[..., str]) -> None:
    top = tree("a.jpg", "a.txt", "b.PNG", "deeper/c.jpg")
    for text in ("{}", "{}/"):
        [shard] = list_shards([text.replace("{}", top)])
        assert (shard.url, shard.size) == (f"{top}/", None)
        assert shard.etag
        assert shard.part_name.startswith("m-")
    assert below(top, "{}/deeper", "{}") == ["deeper/", ""]
    assert "a folder of images" in refusal(f"{top}/*.jpg")
    assert "a folder of images" in refusal(f"{top}/a.jpg")


def test_folders_below_that_hold_images_are_shards(tree: Callable[..., str]) -> None:
    top = tree(
        "x/cats/1.jpg", "x/dogs/1.webp", "x/dogs/puppies/2.gif", "x/notes/readme.txt", "x/_no/3.jpg", "x/.no/4.jpg"
    )
    tree("x/shards/0.tar", "x/shards/preview.jpg", "readme.txt", "stats.json", "_5.parquet")
    assert below(top, "{}") == ["x/cats/", "x/dogs/", "x/dogs/puppies/", "x/shards/0.tar"]
    assert below(top, "{}/x/*") == below(top, "{}/*/*") == ["x/cats/", "x/dogs/", "x/shards/0.tar"]
    assert below(top, "{}/x/[cd]*/") == ["x/cats/", "x/dogs/"]
    assert "holds no .tar shards, Parquet files or images" in refusal(f"{top}/x/notes")


def test_the_etag_of_a_folder_changes_with_what_is_read(tmp_path: Path) -> None:
    def etag() -> str | None:
        return list_shards([str(tmp_path)])[0].etag

    write(tmp_path / "a.jpg")
    write(tmp_path / "b.jpg")
    seen = [etag()]
    assert etag() == seen[0]
    write(tmp_path / "readme.md")
    write(tmp_path / ".c.jpg")
    write(tmp_path / "deeper" / "c.jpg")
    assert etag() == seen[0]
    write(tmp_path / "a.txt")
    seen.append(etag())
    os.utime(tmp_path / "b.jpg", (1, 1))
    seen.append(etag())
    (tmp_path / "b.jpg").rename(tmp_path / "c.jpg")
    seen.append(etag())
    write(tmp_path / "c.jpg", b"12345")
    os.utime(tmp_path / "c.jpg", (1, 1))
    seen.append(etag())
    assert len(set(seen)) == 5


def test_a_folder_of_clipmills_own_is_refused(tmp_path: Path) -> None:
    output = Output.at(str(tmp_path / "out"))
    output.prepare()
    embed_shard(write_pairs(tmp_path / "0.tar", 3), fake_tools(), output)
    shards = list_shards([output.url])
    assert len(shards) == 1
    with pytest.raises(InputError, match="embeddings that clipmill wrote"):
        look_into(shards)
