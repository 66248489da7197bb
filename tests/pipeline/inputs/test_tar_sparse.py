"""Sparse members of tars, as GNU tar writes them in all of its formats, and broken ones."""

import shutil
import subprocess
import tarfile
from contextlib import suppress
from pathlib import Path

import pytest
from clipmill.pipeline.inputs.shards import read_samples
from clipmill.pipeline.inputs.tar_sparse import SparseMap, expanded
from clipmill.pipeline.records import Shard
from hypothesis import given
from hypothesis import strategies as st
from tar_kit import samples_of

FORMATS = {
    "gnu": ["--format=gnu"],
    "pax 0.0": ["--format=posix", "--sparse-version=0.0"],
    "pax 0.1": ["--format=posix", "--sparse-version=0.1"],
    "pax 1.0": ["--format=posix", "--sparse-version=1.0"],
}
needs_gnu_tar = pytest.mark.skipif(shutil.which("tar") is None, reason="tar is not installed")


def write_sparse(path: Path, pieces: int, size: int) -> bytes:
    with path.open("wb") as file:
        for i in range(pieces):
            file.seek(i * (size // max(pieces, 1)))
            file.write(b"%03d" % i * 1000)
        file.truncate(size)
    return path.read_bytes()


@needs_gnu_tar
@pytest.mark.parametrize("options", FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize("pieces", [0, 1, 3, 5, 60])
def test_a_sparse_member_has_its_real_bytes_and_every_sample_after_it_is_kept(
    tmp_path: Path, options: list[str], pieces: int
) -> None:
    folder = tmp_path / "d"
    folder.mkdir()
    long = "k" * 120
    contents = {f"{name}.bmp": write_sparse(folder / f"{name}.bmp", pieces, 1 << 21) for name in ("1", long)}
    for name, data in (("0.jpg", b"zero"), ("2.jpg", b"two"), *((f"{i}.txt", b"t") for i in ("0", "1", "2", long))):
        (folder / name).write_bytes(data)
        contents[name] = data
    path = tmp_path / "x.tar"
    command = ["tar", "-S", *options, "--sort=name", "-cf", str(path), "-C", str(folder), *sorted(contents)]
    subprocess.run(command, check=True)
    samples = list(read_samples(Shard(str(path))))
    assert [s.key for s in samples] == ["0", "1", "2", long]
    assert [s.image for s in samples] == [contents[n] for n in ("0.jpg", "1.bmp", "2.jpg", f"{long}.bmp")]
    assert [s.error for s in samples] == [None] * 4
    with tarfile.open(path) as tar:
        file = tar.extractfile("1.bmp")
        assert file is not None and file.read() == samples[1].image


@needs_gnu_tar
@pytest.mark.parametrize("options", FORMATS.values(), ids=FORMATS)
def test_a_broken_map_is_one_failed_row_or_the_end_that_a_row_tells(tmp_path: Path, options: list[str]) -> None:
    write_sparse(tmp_path / "1.bmp", 3, 1 << 21)
    for name in ("0.jpg", "2.jpg"):
        (tmp_path / name).write_bytes(b"x")
    subprocess.run(["tar", "-S", *options, "-cf", "x.tar", "0.jpg", "1.bmp", "2.jpg"], check=True, cwd=tmp_path)
    data = (tmp_path / "x.tar").read_bytes()
    whole = samples_of(data)
    assert whole[0].image_offset is not None
    for at in range(whole[0].image_offset + 512, min(len(data), 6000), 7):
        samples = samples_of(data[:at] + b"\xff" + data[at + 1 :])
        assert samples[0] == whole[0]
        assert len(samples) == 3 or any(s.error for s in samples)


@given(
    st.binary(max_size=1500),
    st.integers(0, 5000),
    st.none() | st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99))),
)
def test_any_map_gives_a_file_of_its_size_or_is_refused(
    stored: bytes, size: int, pieces: list[tuple[int, int]] | None
) -> None:
    with suppress(ValueError):
        assert len(expanded(stored, SparseMap(size, pieces))) == size
