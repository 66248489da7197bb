"""Large files are hashed once for each state that they are in."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from clipmill.clipmodel import remembered
from clipmill.clipmodel.download import sha256_of
from clipmill.clipmodel.remembered import remembered_sha256


@pytest.fixture
def reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[Path]]:
    """The files that were read, call by call; every file counts as large, and as long unchanged."""
    calls: list[list[Path]] = []

    def counted(files: list[Path]) -> str:
        calls.append(list(files))
        return sha256_of(files)

    monkeypatch.setenv("CLIPMILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(remembered, "sha256_of", counted)
    monkeypatch.setattr(remembered, "_LARGE", 0)
    monkeypatch.setattr(remembered, "_SETTLED", -1.0)
    return calls


def test_a_file_is_read_once_until_it_changes(tmp_path: Path, reads: list[list[Path]]) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"one")
    assert {remembered_sha256([path]) for _ in range(3)} == {sha256_of([path])}
    assert len(reads) == 1
    kept = path.stat()
    path.write_bytes(b"two")  # of the same size, and made to look as old
    os.utime(path, ns=(kept.st_atime_ns, kept.st_mtime_ns))
    assert remembered_sha256([path]) == sha256_of([path])
    assert len(reads) == 2


def test_several_files_are_one_hash_in_their_order(tmp_path: Path, reads: list[list[Path]]) -> None:
    one, two = tmp_path / "1", tmp_path / "2"
    one.write_bytes(b"1")
    two.write_bytes(b"2")
    assert remembered_sha256([one, two]) == sha256_of([one, two]) != remembered_sha256([two, one])


@pytest.mark.parametrize("note", [b"", b"nonsense", b"\xff" * 64])
def test_a_damaged_note_is_written_again(tmp_path: Path, reads: list[list[Path]], note: bytes) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"one")
    right = remembered_sha256([path])
    (kept,) = (tmp_path / "cache" / "sha256").iterdir()
    kept.write_bytes(note)
    assert remembered_sha256([path]) == right == kept.read_text()


def test_without_a_folder_for_notes_files_are_hashed(
    tmp_path: Path, reads: list[list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"one")
    monkeypatch.setenv("CLIPMILL_CACHE", str(path / "no folder"))
    assert remembered_sha256([path]) == remembered_sha256([path]) == sha256_of([path])
    assert len(reads) == 2


def test_what_was_just_written_is_not_trusted(
    tmp_path: Path, reads: list[list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remembered, "_SETTLED", 10.0)
    path = tmp_path / "weights"
    path.write_bytes(b"one")
    assert remembered_sha256([path]) == remembered_sha256([path])
    assert len(reads) == 2 and not (tmp_path / "cache").exists()


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        remembered_sha256([tmp_path / "none"])
