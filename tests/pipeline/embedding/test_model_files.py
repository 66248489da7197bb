"""Weights reach every machine: from object storage, and again on a machine that lacks what the driver has."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from clipmill.pipeline.embedding.model_files import find_model
from clipmill.pipeline.errors import ModelError
from fsspec.implementations.memory import MemoryFileSystem


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CLIPMILL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def url(sharp_weights: Path) -> str:
    MemoryFileSystem().pipe_file("/weights/sharp.safetensors", sharp_weights.read_bytes())
    return "memory://weights/sharp.safetensors"


@pytest.mark.parametrize("name", ["tiny=", ""])
def test_weights_at_a_url_are_copied_once(name: str, url: str, cache: Path, sharp_weights: Path) -> None:
    found = find_model(f"{name}{url}")
    assert found.resolved.sha256 == find_model(f"tiny={sharp_weights}").resolved.sha256
    (copy,) = found.resolved.files
    assert copy.is_relative_to(cache)
    before = copy.stat().st_mtime_ns
    assert find_model(f"{name}{url}").resolved.files[0].stat().st_mtime_ns == before


def test_a_machine_without_the_copy_makes_its_own(
    url: str, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = find_model(f"tiny={url}")
    monkeypatch.setenv("CLIPMILL_CACHE", str(tmp_path / "other machine"))
    found.resolved.files[0].unlink()
    here = found.here()
    assert here.files[0].is_relative_to(tmp_path / "other machine")
    assert here.sha256 == found.resolved.sha256


def test_a_machine_that_has_them_takes_them_as_they_are(sharp_weights: Path) -> None:
    found = find_model(f"tiny={sharp_weights}")
    assert found.here() is found.resolved


def test_a_file_that_only_the_driver_has_is_told_with_what_to_do(tmp_path: Path, sharp_weights: Path) -> None:
    path = tmp_path / "mine.safetensors"
    path.write_bytes(sharp_weights.read_bytes())
    found = find_model(f"tiny={path}")
    path.unlink()
    with pytest.raises(ModelError, match=r"put the weights where all machines see them, such as NAME=s3://"):
        found.here()


def test_other_weights_on_another_machine_are_refused(url: str, cache: Path) -> None:
    found = find_model(f"tiny={url}")
    found.resolved.files[0].unlink()
    with pytest.raises(ModelError, match="other weights than the driver"):
        replace(found, resolved=replace(found.resolved, sha256="0" * 64)).here()


@pytest.mark.parametrize("spec", ["tiny=memory://weights/no.safetensors", "nosuch://bucket/a.pt"])
def test_a_url_that_leads_nowhere_is_one_line(spec: str, cache: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read") as error:
        find_model(spec)
    assert "\n" not in str(error.value)
